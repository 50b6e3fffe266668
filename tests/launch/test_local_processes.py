"""launch/local_processes.sh with real processes: their start and their end."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from tests.launch.machine import ROOT, RUNS, make_machine

# Process 0 ends last: the others lose their coordinator with it.
WRITES = """
import json, os, pathlib, sys, time
names = ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
seen = {name: os.environ["JAXSEARCH_" + name] for name in names}
seen |= {"flags": os.environ["XLA_FLAGS"], "words": sys.argv[1:]}
folder = pathlib.Path(__file__).parent
(folder / f"seen_{seen['PROCESS_ID']}.json").write_text(json.dumps(seen))
while seen["PROCESS_ID"] == "0" and not (folder / "seen_1.json").exists():
    time.sleep(0.1)
time.sleep(2 if seen["PROCESS_ID"] == "0" else 0)
raise SystemExit(0)
"""
# One process is killed when both are there; the other one would run for long.
DIES = """
import os, pathlib, signal, time
number = os.environ["JAXSEARCH_PROCESS_ID"]
folder = pathlib.Path(__file__).parent
(folder / f"pid_{number}").write_text(str(os.getpid()))
print("said by process", number)
if number == os.environ.get("DYING"):
    while len([*folder.glob("pid_*")]) < 2:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(300)
"""
# A `jaxsearch` that finds at SIGTERM what its user must mend, such as a full disk.
MUST_BE_MENDED = r"""
trap 'exit 2' TERM
touch "$HOME/ready_$JAXSEARCH_PROCESS_ID"
for ((i = 0; i < 400; i++)); do sleep 0.05; done
"""


@pytest.fixture
def machine(tmp_path):
    return make_machine(tmp_path, RUNS)


def write_config(machine, text: str) -> str:
    path = machine.folder / "config.py"
    path.write_text(text)
    return str(path)


def is_alive(machine, process: int) -> bool:
    try:
        os.kill(int((machine.folder / f"pid_{process}").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_every_process_learns_its_place(machine):
    config = write_config(machine, WRITES)
    done = machine.launch("local_processes.sh", "2", config, "--steps", "5")
    assert done.returncode == 0, done.stderr
    seen = [
        json.loads((machine.folder / f"seen_{i}.json").read_text()) for i in range(2)
    ]
    assert [one["PROCESS_ID"] for one in seen] == ["0", "1"]
    assert {one["NUM_PROCESSES"] for one in seen} == {"2"}
    [address] = {one["COORDINATOR"] for one in seen}
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    for one in seen:
        assert one["flags"] == "--xla_force_host_platform_device_count=1"
        assert one["words"] == ["train", config, "--steps", "5"]


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_a_killed_process_is_named_and_the_others_are_stopped(machine, dying):
    config = write_config(machine, DIES)
    done = machine.launch(
        *("local_processes.sh", "2", config),
        **{"JAXSEARCH_GRACE_S": "6", "DYING": str(dying)},
    )
    assert done.returncode == 1
    assert done.stdout == "said by process 0\n"
    lines = done.stderr.splitlines()
    died = f"process {dying} of 2 ended with status 137 (killed by SIGKILL); its "
    if dying == 0:
        assert f"{died}output is above" in lines
    else:
        place = lines.index(f"{died}last lines:")
        assert lines[place + 1] == "  said by process 1"
    # JAX aborts the other one, if it has noticed by then.
    other = f"process {1 - dying} of 2 "
    stopped = f"{other}was still running 6 s later and is stopped"
    aborted = f"then {other}ended with status 134 (killed by SIGABRT)"
    assert (stopped in lines) != (aborted in lines)
    assert lines[-1] == "the same command resumes from the last checkpoint"
    assert not is_alive(machine, 1 - dying)


def test_bad_input_ends_with_status_2(machine):
    done = machine.launch("local_processes.sh", "2", "nowhere.py")
    assert done.returncode == 2
    assert "nowhere.py does not exist" in done.stderr
    assert "ended with status 2 (bad usage or bad input)" in done.stderr
    assert "resumes" not in done.stderr


def test_a_launcher_that_is_ended_ends_its_processes(machine):
    config = write_config(machine, DIES)
    command = ["bash", str(ROOT / "launch/local_processes.sh"), "2", config]
    # They do not get to a step after which they could end by themselves.
    with subprocess.Popen(
        command,
        env=machine.variables | {"JAXSEARCH_GRACE_S": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as launcher:
        pids = [machine.folder / f"pid_{i}" for i in range(2)]
        while not all(path.exists() and path.read_text() for path in pids):
            assert launcher.poll() is None
            time.sleep(0.05)
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 75, said
    assert b"ended early; the same command continues" in said
    assert not is_alive(machine, 0) and not is_alive(machine, 1)


def test_what_the_user_must_mend_is_not_hidden_by_sigterm(tmp_path):
    machine = make_machine(tmp_path, MUST_BE_MENDED)
    with subprocess.Popen(
        ["bash", str(ROOT / "launch/local_processes.sh"), "2", "config.py"],
        env=machine.variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        while not all((tmp_path / f"ready_{i}").exists() for i in range(2)):
            assert launcher.poll() is None
            time.sleep(0.05)
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 2, said
    assert "ended with status 2 (bad usage or bad input)" in said
    assert "continues" not in said
