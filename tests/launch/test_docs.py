"""The API's documents are built without a warning, and their references exist."""

import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.launch.machine import ROOT

DOCS = runpy.run_path(str(ROOT / "launch/docs.py"))


@pytest.mark.slow
def test_the_documents_are_built(tmp_path):
    command = [sys.executable, str(ROOT / "launch/docs.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'index.html'}\n"
    for module in DOCS["MODULES"]:
        page = (tmp_path / f"{module.replace('.', '/')}.html").read_text()
        assert f"<title>{module} API documentation</title>" in page
    page = (tmp_path / "jaxsearch.html").read_text()
    for name in ("rollout", "Trainer", "RolloutConfig", "Retriever"):
        assert f'id="{name}"' in page, name
    # Functions come before classes.
    assert page.index('id="shard"') < page.index('id="Architecture"')


@pytest.mark.parametrize(
    ("reference", "exists"),
    [
        ("RolloutConfig.max_len", True),
        ("rollouts.stop", True),
        ("run.loading.load_run", True),
        ("RolloutConfig.max_length", False),
        ("run.loading.load_runs", False),
        # Not a name of the package.
        ("results.json", True),
        ("trainer.policy", True),
    ],
)
def test_references(reference, exists):
    member = SimpleNamespace(taken_from=("jaxsearch.api.rollout", "rollout"))
    assert DOCS["_exists"](reference, "jaxsearch", member) == exists


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"> <a href="b.html#there"> <a href="c.html">'
        '<a href="https://jax.dev"> <a href="${url}">'
    )
    assert list(DOCS["broken_links"](tmp_path)) == [
        f"{tmp_path / 'a.html'}: b.html#there leads nowhere",
        f"{tmp_path / 'a.html'}: c.html leads nowhere",
    ]
