"""Entries of JAX's cache that are broken are replaced, and said in one line."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import jax
from jaxsearch import processes

processes.use_compilation_cache()


@jax.jit
def squared(x):
    return x * x


print(float(squared(3.0)))
"""


def ran(folder, **environ):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **environ,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "9.0\n"
    return done.stderr.splitlines()


def entry_in(folder):
    [path] = folder.glob("jit_squared-*-cache")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["truncated", "empty", "of another program"])
def test_a_broken_entry_is_replaced(tmp_path, kind):
    assert not ran(tmp_path)
    entry = entry_in(tmp_path)
    whole = entry.read_bytes()
    broken = {"truncated": whole[: len(whole) // 2], "empty": b""}
    if kind in broken:
        entry.write_bytes(broken[kind])
    else:
        # As JAX compresses it, but nothing that can be executed.
        entry.write_bytes(zlib.compress(b"of another version or machine" * 99))
    [line] = ran(tmp_path)
    assert line.startswith(
        f"the compiled program jit_squared in {tmp_path} is broken ("
    )
    assert line.endswith("): it is compiled again and replaced")
    assert abs(len(entry_in(tmp_path).read_bytes()) - len(whole)) < len(whole) / 10
    assert not ran(tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    [line] = ran(file / "cache")
    assert "Not a directory" in line
