"""The notebooks of notebooks/, executed, and the conditions on what is committed."""

import os
import runpy
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install 'jaxsearch[notebooks]'")
for _name in ("nbclient", "ipykernel", "matplotlib"):
    pytest.importorskip(_name, reason="pip install 'jaxsearch[notebooks]'")

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook  # noqa: E402

LAUNCH = Path(__file__).parents[2] / "launch" / "notebooks.py"
SCRIPT = runpy.run_path(str(LAUNCH))
NOTEBOOKS = SCRIPT["notebooks"]()
OPENING = "# A\n**What you will see:** a.\n\n**How long it takes:** 1 s."


# Those that train take minutes.
LONG = {"train", "your_own_task"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=pytest.mark.long if path.stem in LONG else pytest.mark.slow,
        )
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_from_top_to_bottom(path):
    notebook = SCRIPT["read"](path)
    SCRIPT["execute"](notebook, SCRIPT["kernel_environment"]())
    SCRIPT["tidy"](notebook)
    assert not list(SCRIPT["problems"](notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed(path):
    assert not list(SCRIPT["problems"](SCRIPT["read"](path)))


def test_a_missing_extra_is_bad_usage():
    program = (
        "import runpy, sys; sys.modules['nbformat'] = None; "
        f"runpy.run_path({str(LAUNCH)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "nbformat is not installed: pip install 'jaxsearch[notebooks]'\n"
    )


def executed(*sources, environment=None):
    """A notebook of these code cells, after they ran in a kernel."""
    notebook = new_notebook(cells=[new_markdown_cell(OPENING)])
    notebook.cells += [new_code_cell(source) for source in sources]
    environment = SCRIPT["kernel_environment"]() | (environment or {})
    SCRIPT["execute"](notebook, environment)
    return notebook


def failure_of(*sources, environment=None):
    """The text with which a notebook of these cells fails."""
    with pytest.raises(SCRIPT["NotebookError"]) as error:
        executed(*sources, environment=environment)
    return str(error.value)


@pytest.fixture(scope="module")
def good():
    """A notebook that may be committed."""
    notebook = executed(SCRIPT["install_cell"](), "print('a', 1 / 4)")
    SCRIPT["tidy"](notebook)
    assert not list(SCRIPT["problems"](notebook))
    return notebook


def problems_of(notebook, change):
    """The problems of a notebook after `change`, which receives a copy."""
    copy = nbformat.from_dict(nbformat.reads(nbformat.writes(notebook), as_version=4))
    change(copy)
    return list(SCRIPT["problems"](copy))


def test_nothing_that_differs_between_executions_is_kept(good):
    assert "execution" not in good.cells[1].metadata
    assert set(good.metadata) == {"kernelspec", "language_info", "jaxsearch"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: n.cells[2].outputs.clear(), "without outputs"),
        (lambda n: n.cells[2].update(source="print(2)"), "its code has changed"),
        (lambda n: n.cells[2].update(execution_count=7), "not executed from top"),
        (lambda n: n.cells[1].update(source="1"), "not notebooks/install.py"),
        (lambda n: n.cells[0].update(source="# A"), "What you will see"),
        (lambda n: n.cells[2].outputs[0].update(text="a" * 400_000), "bytes, more"),
        (lambda n: n.cells[2].outputs[0].update(text="/tmp/x/y"), "/tmp/x/y"),
        (lambda n: n.cells[2].outputs[0].update(text="<f at 0x7fabc123>"), "0x7fab"),
    ],
    ids=["outputs", "code", "order", "install", "opening", "size", "path", "address"],
)
def test_a_problem_is_named(good, change, problem):
    assert problem in "\n".join(problems_of(good, change))


def test_a_cell_that_fails_or_warns_fails_the_notebook():
    assert "ZeroDivisionError" in failure_of("1 / 0")
    warns = "import warnings; warnings.warn('beware')"
    assert failure_of(warns) == "a cell warns: UserWarning: beware"


def test_virtual_devices_come_before_jax_starts():
    use = "from jaxsearch.notebook.devices import use_virtual_devices as use; use(8)"
    notebook = executed(
        f"{use}\nimport jax; print(jax.device_count())",
        "import jax; print(jax.devices()[0].platform)",
        environment={"XLA_FLAGS": ""},
    )
    assert [cell.outputs[0].text for cell in notebook.cells[1:]] == ["8\n", "cpu\n"]


def test_too_few_devices_are_one_line():
    use = "from jaxsearch.notebook.devices import use_virtual_devices as use; use(8)"
    text = failure_of(
        f"import jax; jax.devices()\n{use}", environment={"XLA_FLAGS": ""}
    )
    *_, shown = text.strip().partition("------------------\n")[2].splitlines()[2:]
    assert shown == (
        "NotebookError: this needs 8 devices, but JAX has started with 1: restart the "
        "kernel and run the notebook from its first cell"
    )
    assert "Traceback" not in text


def run_install(tmp_path, **pip):
    """Runs the install cell as on Colab, in an environment with nothing but pip."""
    home = tmp_path / "hosted"
    venv.create(home, with_pip=False, symlinks=True)
    import pip as installed

    # pip itself, without the ten seconds of installing it.
    packages = home / "packages"
    packages.mkdir()
    (packages / "pip").symlink_to(Path(installed.__file__).parent)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
        # Settings of this machine could name other indexes.
        **{"PIP_CONFIG_FILE": os.devnull, "COLAB_RELEASE_TAG": "1"},
        **{"PYTHONPATH": str(packages), **pip},
    }
    program = f"{SCRIPT['install_cell']()}\nimport jaxsearch; print('installed')"
    return subprocess.run(
        [home / "bin/python", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )


def test_the_install_cell_says_what_to_do_without_a_network(tmp_path):
    path = tmp_path / "jaxsearch-1-py3-none-any.whl"
    wheel(path, "jaxsearch")
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = run_install(tmp_path, **closed)
    assert done.returncode == 1
    assert done.stderr == (
        f"could not install {path} and what it needs: switch the notebook's internet "
        "on (Kaggle: Settings)\n"
    )


def test_the_install_cell_installs_the_newest_wheel_next_to_it(tmp_path):
    for version in (10, 9):
        wheel(tmp_path / f"jaxsearch-{version}-py3-none-any.whl", "jaxsearch", version)
    os.utime(tmp_path / "jaxsearch-10-py3-none-any.whl", (0, 0))
    wheel(tmp_path / "matplotlib-1-py3-none-any.whl", "matplotlib")
    # A folder of this name could be imported, but is not the package.
    (tmp_path / "jaxsearch").mkdir()
    done = run_install(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "installed\n"), done.stderr
    assert list(tmp_path.rglob("jaxsearch-9.dist-info"))


def test_the_install_cell_takes_no_package_of_this_name_from_an_index(tmp_path):
    """Nobody has registered the name, so whoever does could run code."""
    (tmp_path / "index").mkdir()
    for name in ("jaxsearch", "matplotlib"):
        wheel(tmp_path / f"index/{name}-1-py3-none-any.whl", name)
    done = run_install(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=f"{tmp_path}/index")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "jaxsearch is not here: upload a wheel next to this notebook (`pip wheel "
        "--no-deps .` in a clone makes one), or put the path or address of a wheel or "
        "a clone into `source`\n"
    )


def wheel(path, name, version=1):
    """Writes a wheel with one empty module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: "
        f"{version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, text)


def test_an_unknown_name_is_one_line():
    done = subprocess.run(
        [sys.executable, LAUNCH, "no_such"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout.startswith("no notebook no_such; there are")
