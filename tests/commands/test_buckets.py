"""Addresses of buckets are refused at the start by every command but train."""

import importlib.util

import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.sample import sample_questions_path
from jaxsearch.local_paths import check_local

RUN = "gs://bucket/runs/one"
COMMANDS = {
    "eval": ["eval", "--model", "jaxsearch:quickstart", "--out", RUN],
    "eval of a run": ["eval", "--model", RUN, "--out", "here"],
    "ask": ["ask", "--model", RUN, "Who?"],
    "export": ["export", RUN, "here"],
    "export to": ["export", "runs/one", RUN],
    "report": ["report", RUN],
    "select": [
        *("select", "quickstart", "--model", "jaxsearch:quickstart", "--tries", "3"),
        *("--out", RUN),
    ],
    "score": ["score", "--task", "auto", f"{RUN}/predictions.jsonl"],
    "score to": ["score", "--task", "auto", "here.jsonl", "--out", f"{RUN}.jsonl"],
    "index build": ["index", "build", "--corpus", "c.jsonl", "--out", RUN],
    "index build from": ["index", "build", "--corpus", f"{RUN}.jsonl", "--out", "here"],
    "index check": ["index", "check", RUN],
    "index select": [
        *("index", "select", "here", "--questions", "q.jsonl", "--out", f"{RUN}.jsonl"),
    ],
    "corpus chunk": ["corpus", "chunk", ".", "--out", f"{RUN}.jsonl"],
    "a warm start": ["train", "quickstart", "--model.path", RUN, "--out", "here"],
    "the cache of the web": ["train", "quickstart", "--web.cache", RUN],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_bucket_is_refused_at_the_start(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        assert main(words) == 2
    except SystemExit as end:  # of a field of the config
        assert end.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "must be on a file system of this machine, got 'gs://bucket/" in line
    assert "mount the bucket" in line
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="has gcsfs")
@pytest.mark.parametrize("words", [["--out", RUN], ["--seed", "3", f"--out={RUN}"]])
def test_a_run_in_a_bucket_needs_its_package(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "quickstart", *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("pip install 'jaxsearch[gcs]'") and RUN in line
    assert not any(tmp_path.iterdir())


def test_paths_and_other_addresses_are_told_apart(tmp_path):
    for path in ("runs/one", "/a/b", "C:/runs", "a:b", "", str(tmp_path)):
        check_local(path, "x")
    check_local(sample_questions_path(), "x")
    for path in ("s3://b/x", "memory://x", "gs:/b", "FILE:///x", "az+x.1://b"):
        with pytest.raises(ValueError, match="^x must be on a file system"):
            check_local(path, "x")
