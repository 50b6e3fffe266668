"""`jaxsearch doctor`: checks the installation and the machine, and how to mend them."""

import argparse
import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import Command

if TYPE_CHECKING:
    from jaxsearch.doctor.check import Check

_DESCRIPTION = """\
Checks, in a few seconds: packages, memory, disk and the cache of compiled programs; a
tiny program on every device; whether the sampler's log-probs equal the trainer's, with
a policy of random weights; ScaNN; and whether tokens for Hugging Face and Weights &
Biases are present (never their values). Each finding that is not ok comes with the
command that fixes it. The exit status is 1 if there is a problem. A note is not a
problem: only some uses need what it names.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    found = []
    for check in examine():
        found.append(check)
        if not args.json:
            print("\n".join(_lines(check)), flush=True)
    problems = [check.name for check in found if check.status == "problem"]
    checks = [dataclasses.asdict(check) for check in found]
    result = {"is_healthy": not problems, "checks": checks}
    if problems:
        if args.json:
            print(json.dumps(result))
        raise RuntimeError(f"to be mended: {', '.join(problems)}")
    if args.json:
        return result
    print("no problem found; next: jaxsearch train quickstart")
    return {}


def examine() -> "Iterator[Check]":
    """Yields the findings, quick ones first."""
    from jaxsearch.doctor.machine import cache_check, machine_checks, scann_check
    from jaxsearch.doctor.packages import package_checks, token_checks

    yield from package_checks()
    yield from machine_checks(Path.cwd())
    yield from token_checks()
    yield scann_check()

    import jax

    from jaxsearch import processes
    from jaxsearch.doctor.devices import device_checks
    from jaxsearch.doctor.policy import policy_check

    processes.use_compilation_cache()
    yield cache_check(jax.config.jax_compilation_cache_dir)
    devices = list(device_checks())
    yield from devices
    if any(check.status == "ok" for check in devices):
        yield policy_check()


def _lines(check: "Check") -> list[str]:
    """A finding, and below it the command that fixes it."""
    width = shutil.get_terminal_size().columns
    head = f"{check.status:9}{check.name:14} "
    lines = textwrap.wrap(
        check.found,
        max(width, len(head) + 20),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )
    return [*lines, f"{'':9}-> {check.mend}"] if check.mend else lines


COMMAND = Command(
    summary="check the installation, the devices and this machine",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
