"""What a run holds does not grow with its steps."""

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
    settled = lines[20:]
    for name in ("files", "threads"):
        counts = [line[name] for line in settled]
        assert max(counts[:10]) >= max(counts), (name, counts)
    memory = [line["memory"] for line in settled]
    assert max(memory[-10:]) <= 1.03 * max(memory[:10])
