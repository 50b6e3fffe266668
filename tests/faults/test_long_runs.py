"""A long run does not use more and more memory, files or threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("long_run.py")


@pytest.mark.long
def test_memory_files_and_threads_stay_as_they_are(tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path / "run", "300"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in done.stderr.splitlines() if x.startswith('{"step')]
    assert [line["step"] for line in lines] == list(range(1, 301))
    early, late = lines[20:40], lines[-20:]
    # The smallest, because a file may be open for a moment in another thread.
    for name in ("files", "threads"):
        counts = [min(line[name] for line in part) for part in (early, late)]
        assert counts[0] == counts[1], name
    memory = [max(line["memory"] for line in part) for part in (early, late)]
    assert memory[1] <= 1.03 * memory[0]
