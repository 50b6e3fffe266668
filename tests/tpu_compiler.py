"""The TPU compiler, which needs no TPU, for programs of tests."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def printed_with_tpu_compiler(program: str) -> str:
    """The output of a Python program in a process that has the TPU compiler."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs the TPU compiler: pip install -e '.[plan]'")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | _SETTINGS,
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
