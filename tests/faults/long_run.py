"""A tiny RL run that counts what it holds: long_run.py FOLDER STEPS.

Prints one JSON object per step: memory in bytes, open files, threads.
"""

import dataclasses
import gc
import json
import os
import resource
import sys
import threading
from pathlib import Path

from jaxsearch.config import CheckpointConfig, EvalConfig, LoggingConfig
from jaxsearch.run.recorder import Recorder
from jaxsearch.train import train
from tests.tiny import tiny_config


def held() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * resource.getpagesize(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),
    }


if __name__ == "__main__":
    end_step = Recorder.end_step

    def counted(self, *args, **kwargs):
        end_step(self, *args, **kwargs)
        self._checkpoints.wait()
        print(json.dumps({"step": self.step, **held()}), file=sys.stderr, flush=True)

    Recorder.end_step = counted
    tiny = tiny_config(Path(sys.argv[1]))
    search = dataclasses.replace(
        tiny.stages[1], steps=int(sys.argv[2]), questions_per_step=2, group_size=2
    )
    train(
        dataclasses.replace(
            tiny,
            rollout=dataclasses.replace(tiny.rollout, num_slots=4, max_len=60),
            stages=(search,),
            eval=EvalConfig(every=0, limit=1),
            logging=LoggingConfig(wandb="disabled", rollouts_every=10),
            checkpoint=CheckpointConfig(every=10),
        )
    )
