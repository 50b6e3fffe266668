"""Memory that runs out is one line, which names the setting that helps; status 2."""

import resource

import pytest

from tests.test_several_processes import ended, start_all

# The estimator is called between rollouts and update. It leaves the process some
# gigabytes, enough to compile the update and not enough to run it.
ESTIMATOR = """
import resource
from pathlib import Path

from jaxsearch.rl.advantages import group_relative


def limited(rewards, is_kept):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 3 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return group_relative(rewards, is_kept)
"""
CONFIG = """
import dataclasses
from pathlib import Path

from scarce import limited
from tests.tiny import tiny_config

tiny = tiny_config(Path("unnamed"))
[_, search] = tiny.stages
config = dataclasses.replace(
    tiny,
    stages=(dataclasses.replace(search, advantage=limited),),
    eval=dataclasses.replace(tiny.eval, every=0, limit=1),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "found"),
    [
        (
            ("--rollout.num-slots", "1000000"),
            (
                "1,000,000 slots of 16.9 kB take 16.9 GB in addition to 76.4 kB",
                "lower --rollout.num-slots, --rollout.cache-len or --rollout.max-len",
            ),
        ),
        (
            ("--stages.0.max-tokens", "10000000"),
            (
                "memory ran out in the update of stage 'search', which asked for ",
                "microbatches of up to 83333 x 120 tokens (max_tokens 10000000)",
                "on a mesh data=1 x fsdp=1 x tensor=1",
                "lower --stages.0.max-tokens, for example to 4999920, or set --model.",
                "continues after the last checkpoint",
            ),
        ),
    ],
    ids=["rollout", "update"],
)
def test_it_is_one_line(tmp_path, override, found):
    (tmp_path / "scarce.py").write_text(ESTIMATOR)
    (tmp_path / "own.py").write_text(CONFIG)
    command = ["-m", "jaxsearch", "train", tmp_path / "own.py", *override]
    [process] = start_all(*command, "--out", tmp_path / "run", count=1, num_devices=1)
    # Before it has imported JAX. Slots are allocated before the estimator is called.
    resource.prlimit(process.pid, resource.RLIMIT_AS, (15 * 2**30, 15 * 2**30))
    [status], [output] = ended([process])
    assert status == 2, output
    last = output.splitlines()[-1]
    assert last.startswith("jaxsearch train: ") and "Traceback" not in output
    for text in found:
        assert text in last
