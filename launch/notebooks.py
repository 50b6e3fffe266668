"""Executes the notebooks of notebooks/ and keeps their outputs.

    python launch/notebooks.py [--check] [--timeout SECONDS] [NAME ...]

Without names, all of them. Each runs top to bottom in a kernel of its own, with eight
virtual CPU devices, and is written back with its outputs, but without what differs
between two executions: times, progress bars, paths. With --check nothing is written.
A notebook that fails is left as it is, and the exit status is 1; it is 2 for wrong
usage, or without the extra `notebooks`.

notebooks/install.py is the text of the first code cell of every notebook.
"""

import argparse
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
except ModuleNotFoundError as missing:
    print(
        f"{missing.name} is not installed: pip install 'jaxsearch[notebooks]'",
        file=sys.stderr,
    )
    sys.exit(2)

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
DEVICES = "--xla_force_host_platform_device_count=8"
MAX_BYTES = 300_000
_OPENING = ("# ", "**What you will see:**", "**How long it takes:**")
# Absolute paths, and addresses of objects, as Python prints them.
_LOCAL = re.compile(
    r"(?<![\w./:<])/(?:home|root|tmp|usr|opt|var|work|private|Users|content)/\S*"
    r"|\bat 0x[0-9a-f]{6,}"
)
_WARNING = re.compile(r"\w*Warning:.*")


class NotebookError(Exception):
    """A notebook that failed, or whose outputs may not be kept."""


def notebooks() -> list[Path]:
    """The notebooks of the folder."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook from its file."""
    return nbformat.read(path, as_version=4)


def kernel_environment() -> dict[str, str]:
    """Environment variables of a kernel with eight virtual CPU devices."""
    # Options of the caller, such as those of the tests, stay.
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}".strip()
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # Otherwise a debugger that nobody uses warns about frozen modules.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def execute(
    notebook: nbformat.NotebookNode, environment: dict[str, str], timeout: int = 600
) -> None:
    """Executes a notebook in place, in a new kernel.

    Args:
      environment: environment variables of the kernel.
      timeout: seconds for one cell.

    Raises:
      NotebookError: if a cell fails, takes too long, or warns.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        startup_timeout=timeout,
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise NotebookError(str(error)) from None
    except TimeoutError:
        raise NotebookError(f"a cell takes more than {timeout} seconds") from None
    except DeadKernelError:
        raise NotebookError("its kernel died; maybe memory ran out") from None
    for text in _texts(notebook):
        if found := _WARNING.search(text):
            raise NotebookError(f"a cell warns: {found.group()}")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Removes what differs between two executions, and records what was executed."""
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if cell.cell_type != "code":
            continue
        # Progress goes to stderr; warnings have been found before.
        cell.outputs = [x for x in cell.outputs if x.get("name") != "stderr"]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                # Says only how large the figure is.
                output.data.pop("text/plain", None)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
        "jaxsearch": {"executed": fingerprint(notebook)},
    }


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Identifies the code of a notebook, without its outputs and its text."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def problems(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What keeps an executed notebook from being committed, one line each."""
    size = len(nbformat.writes(notebook))
    if size > MAX_BYTES:
        yield f"{size:,} bytes, more than {MAX_BYTES:,}: use smaller or fewer figures"
    opening = notebook.cells[0]
    for text in _OPENING:
        if opening.cell_type != "markdown" or text not in opening.source:
            yield f"the first cell has no {text!r}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code[0].source != install_cell():
        yield "the first code cell is not notebooks/install.py"
    if [cell.execution_count for cell in code] != [*range(1, len(code) + 1)]:
        yield "not executed from top to bottom"
    elif notebook.metadata.get("jaxsearch", {}).get("executed") != fingerprint(
        notebook
    ):
        yield "its code has changed since it was executed"
    if not any(cell.outputs for cell in code):
        yield "without outputs"
    if any("<Figure size" in text for text in _texts(notebook)):
        yield "a figure is shown as text: return it from new_figure, or use pyplot"
    for text in _texts(notebook):
        if found := _LOCAL.search(text):
            yield f"an output has something of this machine: {found.group()}"


def install_cell() -> str:
    """The text of the first code cell."""
    return (FOLDER / "install.py").read_text().strip()


def _texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The texts of all outputs."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield value


def refresh(path: Path, *, timeout: int, is_written: bool) -> None:
    """Executes a notebook, and writes it with its outputs.

    Raises:
      NotebookError: if it fails, or its outputs may not be committed.
    """
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = install_cell()
    execute(notebook, kernel_environment(), timeout)
    tidy(notebook)
    if found := list(problems(notebook)):
        raise NotebookError("\n".join(found))
    if is_written:
        nbformat.write(notebook, path)


def main() -> int:
    """Executes the notebooks that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="such as sharding")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--timeout", type=int, default=600, help="seconds for one cell (600)"
    )
    args = parser.parse_args()
    known = {path.stem: path for path in notebooks()}
    names = [Path(name).stem for name in args.names] or list(known)
    if unknown := [name for name in names if name not in known]:
        print(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    has_failed = False
    for name in names:
        started = time.perf_counter()
        print(f"{name} ...", end=" ", flush=True)
        try:
            refresh(known[name], timeout=args.timeout, is_written=not args.check)
        except NotebookError as error:
            has_failed = True
            print(f"failed\n{error}")
        else:
            print(f"{time.perf_counter() - started:.0f} s")
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
