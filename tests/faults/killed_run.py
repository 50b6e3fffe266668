"""A tiny run that kills itself: killed_run.py FOLDER [PLACE NUMBER before|after].

PLACE is module:qualname of a function; the process ends, as at kill -9, before or after
its call of that NUMBER.
"""

import functools
import importlib
import os
import signal
import sys
from pathlib import Path

from jaxsearch.train import train
from tests.tiny import tiny_config


def kill_at(place: str, number: int, is_before: bool) -> None:
    module, _, qualname = place.partition(":")
    *holders, name = qualname.split(".")
    owner = functools.reduce(getattr, holders, importlib.import_module(module))
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        is_time = calls == number
        if is_time and is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if is_time:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_at(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "before")
    train(tiny_config(Path(sys.argv[1])))
