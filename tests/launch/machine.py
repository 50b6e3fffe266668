"""A machine with few tools on its PATH and a virtual environment of stubs."""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    *("bash", "sh", "env", "cat", "chmod", "date", "dirname", "find", "git", "grep"),
    *("gzip", "head", "stat"),
    *("hostname", "mkdir", "mktemp", "rm", "sed", "sleep", "sort", "tail", "tar"),
    *("tee", "touch", "wc"),
)
# A `jaxsearch` that prints its arguments and variables, and exits with STATUS.
SHOWS = r"""
env | grep -E '^(JAX|XLA|CUDA|MEGASCALE|TPU_|PYTHONPATH)' | sort
for name in HF_TOKEN WANDB_API_KEY; do
  value="${!name:-}"
  if [ -n "$value" ]; then echo "$name has ${#value} letters"; fi
done
echo "words: $*"
exit "${STATUS:-0}"
"""
RUNS = f'exec {sys.executable} -m jaxsearch "$@"'


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine on which the scripts of launch/ run.

    Attributes:
      folder: its home folder, with tools and a virtual environment.
    """

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """All environment variables of a script."""
        python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {
            "PATH": str(self.folder / "tools"),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "JAXSEARCH_VENV": str(self.folder / "venv"),
            "PYTHONPATH": python_path,
        }

    def tool(self, name: str, text: str) -> None:
        """Puts a bash script on the PATH in place of the tool with that name."""
        _write_script(self.folder / "tools" / name, text)

    def launch(
        self, script: str, *words: str, cwd: Path = ROOT, **variables: str
    ) -> subprocess.CompletedProcess:
        """Runs a script of launch/ in a folder to its end."""
        return subprocess.run(
            ["bash", str(ROOT / "launch" / script), *words],
            cwd=cwd,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def dry_run(self, script: str, *words: str, **variables: str) -> list[list[str]]:
        """The commands that a script prints with --dry-run, each as its words."""
        done = self.launch(script, "--dry-run", *words, **variables)
        assert done.returncode == 0, done.stderr
        lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
        return [words for words in lines if words]


def make_machine(folder: Path, jaxsearch: str) -> Machine:
    """A machine with only common tools, and the given script as `jaxsearch`."""
    (folder / "tools").mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"this test needs {name}"
        (folder / "tools" / name).symlink_to(found)
    (folder / "venv" / "bin").mkdir(parents=True)
    _write_script(folder / "venv/bin/python", f'exec {sys.executable} "$@"')
    _write_script(folder / "venv/bin/jaxsearch", jaxsearch)
    # Stamps of launch/environment.sh for installed extras.
    for extras in ("", "cuda", "tpu"):
        (folder / "venv" / f".jaxsearch-{extras}").touch()
    return Machine(folder)


def _write_script(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # a link: its target must stay as it is
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
