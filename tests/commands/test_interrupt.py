"""Ctrl-C ends a command with one line and status 130, in real processes."""

import contextlib
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.checkpoint import newest_step

ROOT = Path(__file__).resolve().parents[2]
# A call into C that lets other threads run and ends in some hours, like a compilation.
BLOCKED = "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)"
PROGRAM = """
import hashlib, os, time
from jaxsearch.commands.interrupt import Interrupt

def slowly():
    print("finishing", flush=True)
    time.sleep({seconds})

interrupt = Interrupt(lambda: "type it again")
interrupt.resumes = {resumes}
with interrupt.watched(), interrupt.finishing(slowly):
    print("ready", flush=True)
    {block}
print("not ended")
"""

pytestmark = pytest.mark.usefixtures("interruptible")


def started(
    block: str, *, seconds: float = 0.0, resumes: bool = False
) -> subprocess.Popen:
    """A process inside `block`, or about to enter it."""
    program = PROGRAM.format(block=block, seconds=seconds, resumes=resumes)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "block",
    [BLOCKED, "time.sleep(100)", "\n    while True: pass", "os.read(os.pipe()[0], 1)"],
)
def test_one_line_wherever_the_main_thread_is(block):
    process = started(block)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "finishing\n")
    assert err == "interrupted; type it again\n"


@pytest.mark.parametrize(("resumes", "status"), [(True, 75), (False, 143)])
def test_a_scheduler_that_ends_the_process_is_told_whether_to_start_it_again(
    resumes, status
):
    process = started(BLOCKED, resumes=resumes)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "finishing\n")
    assert err == "interrupted; type it again\n"


def test_a_handler_of_the_commands_own_is_left_to_it():
    handler = "lambda *_: (time.sleep(1), os._exit(7))"
    own = f"import signal; signal.signal(signal.SIGTERM, {handler})"
    process = started(f"{own}; print('set', flush=True); time.sleep(100)")
    assert process.stdout.readline() == "set\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, "")


def test_the_second_signal_does_not_wait():
    process = started(BLOCKED, seconds=1000)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "finishing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_signal_to_a_process_and_to_its_group_is_one():
    """`timeout` sends both."""
    process = started(BLOCKED, seconds=1, resumes=True)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "finishing\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (75, "interrupted; type it again\n")


def test_a_process_without_standard_output_ends_too():
    program = (
        "import sys, time\n"
        "from jaxsearch.commands.interrupt import Interrupt\n"
        "from jaxsearch.commands.missing_streams import open_missing_streams\n"
        "open_missing_streams()\n"
        "with Interrupt(lambda: 'type it again').watched():\n"
        "    print('ready', file=sys.stderr, flush=True)\n"
        "    time.sleep(100)\n"
    )
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-c", program],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted; type it again\n")


def test_an_error_while_finishing_still_ends_the_process():
    process = started(f"\n    with interrupt.finishing(None): {BLOCKED}")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("could not finish before the end: TypeError: ")


def test_a_job_in_the_background_keeps_ignoring_the_signal():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = started("time.sleep(1.0)")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "not ended\n", "")


# ------------------------------------------------------------------------- whole runs

CONFIG = """
import dataclasses
from pathlib import Path

from jaxsearch.config import CheckpointConfig
from tests.tiny import tiny_config

tiny = tiny_config(Path("runs/tiny"))
read = dataclasses.replace(tiny.stages[0], steps=5000)
config = dataclasses.replace(
    tiny, stages=(read, *tiny.stages[1:]), checkpoint=CheckpointConfig(every=1000)
)
"""
WITH_TENSORBOARD = """
from jaxsearch.config import LoggingConfig

logging = LoggingConfig(wandb="disabled", tensorboard=True)
config = dataclasses.replace(config, logging=logging)
"""
UNSAVED = "nothing saved: the same command starts again"
COMMAND = [sys.executable, "-m", "jaxsearch", "train", "own.py", "--out", "run"]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The environment of a command in `tmp_path`, which has a config own.py."""
    (tmp_path / "own.py").write_text(CONFIG)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)


@contextlib.contextmanager
def ended(process):
    """Kills a process that a failed test would leave behind."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def interrupted_when(is_time, tmp_path) -> tuple[int, str]:
    """Status and error lines of the command, interrupted when `is_time()` holds."""
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            COMMAND, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=err
        )
        with ended(process):
            while process.poll() is None and not is_time():
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    return process.returncode, (tmp_path / "err").read_text()


def steps_of(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return [line["step"] for line in read_metrics(path)] if path.exists() else []


@pytest.mark.slow
def test_a_run_is_told_from_where_it_goes_on(tmp_path, environment):
    run = tmp_path / "run"
    (tmp_path / "own.py").write_text(CONFIG + WITH_TENSORBOARD)
    for wanted in (5, 12):
        status, err = interrupted_when(
            lambda wanted=wanted: len(steps_of(run)) > wanted, tmp_path
        )
        step = newest_step(run)
        # The last finished step is saved, although only every thousandth is due.
        assert step == steps_of(run)[-1] > wanted
        assert (status, err) == (
            130,
            f"interrupted; the same command continues after step {step}\n",
        )
    steps = steps_of(run)
    assert steps == list(range(1, len(steps) + 1))
    # Its writer keeps them for a while.
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").iterdir())
    assert events.count(b"grad_norm") == len(steps)


def test_a_run_without_a_checkpoint_starts_again(tmp_path, environment):
    """While the data is read: the config is known, and nothing is written."""
    (tmp_path / "own.py").write_text(
        CONFIG + "import sys; print('config', file=sys.stderr, flush=True)\n"
    )
    err = tmp_path / "err"
    status, shown = interrupted_when(lambda: "config" in err.read_text(), tmp_path)
    assert status == 130
    config, *lines = shown.splitlines()
    assert lines in (
        # The signal may come before the folder of the run is known.
        ["interrupted; the same command continues where it stopped"],
        [f"interrupted; {UNSAVED}"],
    )


# Makes the terminal that is its standard input the one whose Ctrl-C it receives.
IN_TERMINAL = """
import os, sys
from fcntl import ioctl
from termios import TIOCSCTTY

ioctl(0, TIOCSCTTY, 0)
os.execv(sys.executable, sys.argv[1:])
"""


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_of_60_columns_while_compiling(
    tmp_path, environment, monkeypatch
):
    # Compiled as for users: it takes long enough to be interrupted.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    terminal, side = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, *COMMAND],
        cwd=tmp_path,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    shown, is_told = b"", False
    with ended(process):
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # closed at the other end
                break
            if not is_told and b"compiling" in shown:
                os.write(terminal, b"\x03")
                is_told = True
        os.close(terminal)
        assert process.wait(timeout=60) == 130
    text = shown.decode()
    assert "Traceback" not in text
    # ^C is the terminal's echo.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("^C", "")
    assert re.search(rf"interrupted; {UNSAVED}\r\n$", plain)
    assert text.count("\x1b[?25l") <= text.count("\x1b[?25h")  # the cursor is back
    too_long = [line for line in re.split(r"[\r\n]", plain) if len(line) > 60]
    assert not too_long
