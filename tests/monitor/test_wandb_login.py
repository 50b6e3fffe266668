"""An online run without a usable key of Weights & Biases is refused at its start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsearch.monitor.wandb_login import check_wandb

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "quickstart.py"
# Nothing listens there.
SERVER = "http://127.0.0.1:9"
PROGRAM = """\
import contextlib, io, json, os, sys
from jaxsearch.commands.main import main
for key in (None, "short", "a" * 39 + "!", "a" * 40):
    os.environ.pop("WANDB_API_KEY", None)
    if key:
        os.environ["WANDB_API_KEY"] = key
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main([*sys.argv[1:], "--logging.wandb", "online"])
    print(json.dumps([status, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Status and standard error for no key, two that are none, and one of no server."""
    folder = tmp_path_factory.mktemp("home")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environ |= {"HOME": str(folder), "WANDB_BASE_URL": SERVER, "WANDB_SILENT": "true"}
    done = subprocess.run(
        [*(sys.executable, "-c", PROGRAM, "train", CONFIG), "--out", folder / "run"],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not (folder / "run").exists()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_no_key_is_one_line(told):
    status, line = told[0]
    assert status == 2 and line == (
        "jaxsearch train: --logging.wandb online needs a key of Weights & Biases: set "
        "WANDB_API_KEY, run `wandb login`, or keep the metrics in the run's folder "
        "with --logging.wandb offline\n"
    )


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_no_key_is_one_line(told, number):
    status, line = told[number]
    assert status == 2 and len(line.splitlines()) == 1
    assert line.startswith("jaxsearch train: --logging.wandb online: WANDB_API_KEY inv")
    assert line.endswith("with --logging.wandb offline\n")


def test_a_server_that_does_not_answer_is_one_line(told):
    status, line = told[3]
    assert status == 2 and len(line.splitlines()) == 1 and SERVER in line
    assert line.startswith("jaxsearch train: --logging.wandb online: Failed to authen")


@pytest.mark.parametrize(
    ("mode", "variable", "advice"),
    [
        ("online", "offline", "offline"),
        ("online", "disabled", "offline"),
        ("online", "dryrun", "offline"),
        ("offline", "online", "online"),
        ("offline", "shared", "online"),
    ],
)
def test_a_variable_that_says_otherwise_is_refused(mode, variable, advice):
    with pytest.raises(ValueError, match=f"unset WANDB_MODE, or say .*{advice}$"):
        check_wandb(mode, {"WANDB_MODE": variable})


@pytest.mark.parametrize(
    ("mode", "variable"),
    [
        ("offline", ""),
        ("offline", "offline"),
        ("offline", "disabled"),
        ("disabled", "online"),
    ],
)
def test_what_sends_nothing_needs_no_key(mode, variable):
    check_wandb(mode, {"WANDB_MODE": variable})
