"""A disk that is full or read-only ends a run with one line, status 2, and no loss."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from jaxsearch.monitor.writers import read_metrics
from tests.test_several_processes import ended, start_all, succeeded

CONFIG = """
from pathlib import Path

from tests.tiny import tiny_config

config = tiny_config(Path("unnamed"), steps=1)
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "own.py").write_text(CONFIG)
    return ["-m", "jaxsearch", "train", tmp_path / "own.py", "--out"]


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system in memory at a folder, where that is allowed."""
    folders = []

    def mount(name, options):
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", folder],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("mounting a file system needs root")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", folder], check=True)


def refused(process):
    """The last line of a process that must end with status 2, without a traceback."""
    [status], [output] = ended([process])
    assert status == 2 and "Traceback" not in output and "ERROR" not in output, output
    return output.splitlines()[-1]


def steps(run):
    return [line["step"] for line in read_metrics(run / "metrics.jsonl")]


@pytest.mark.slow
def test_a_file_that_may_not_grow_ends_the_run_and_it_goes_on(tmp_path, command):
    """As at a quota: every write beyond the limit fails."""
    run = tmp_path / "run"
    [process] = start_all(*command, run, count=1, num_devices=1)
    # More than the largest file of an index here, less than a checkpoint's.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (133_000, 133_000))
    line = refused(process)
    assert "File too large" in line
    assert not (run / "run.lock").exists()
    succeeded(*command, run, count=1, num_devices=1)
    assert steps(run) == [1, 2, 3, 4] and (run / "report.html").is_file()


@pytest.mark.long
@pytest.mark.parametrize("kilobytes", [200, 400, 600, 900, 1200])
def test_a_full_disk_ends_the_run_and_it_goes_on(command, mounted, kilobytes):
    """In the index, the first checkpoint, a later one, or other files."""
    disk = mounted("disk", f"size={kilobytes}k")
    run = disk / "run"
    line = refused(start_all(*command, run, count=1, num_devices=1)[0])
    assert "No space left on device" in line, line
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
    succeeded(*command, run, count=1, num_devices=1)
    assert steps(run) == [1, 2, 3, 4] and (run / "report.html").is_file()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tmp_path, command, request):
    if os.geteuid() == 0:  # who may write where permissions forbid it
        folder: Path = request.getfixturevalue("mounted")("there", "ro")
    else:
        folder = tmp_path / "there"
        folder.mkdir(mode=0o500)
    run = folder / "run"
    line = refused(start_all(*command, run, count=1, num_devices=1)[0])
    assert line.startswith(f"jaxsearch train: {run} cannot be written: ")
    assert line.endswith("make it writable, or choose another folder with --out")
