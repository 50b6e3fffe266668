"""Data sets of the Hub, fetched from one on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsearch.hub_files import hub_file
from tests.loopback_hub import commit_of, running_hub

ONE = b'{"id": "1", "question": "Who?", "golden_answers": ["Ann"]}\n'
TWO = ONE + b'{"id": "2", "question": "What?", "golden_answers": ["A cat"]}\n'
PASSAGES = b'{"id": "p", "contents": "Ann\\nAnn sat."}\n'
PROGRAM = """
import json, sys
from jaxsearch.data.records import SUFFIXES
from jaxsearch.hub_files import fetched, pinned
for path in sys.argv[1:]:
    try:
        print(json.dumps([pinned(path, SUFFIXES), str(fetched(path, SUFFIXES))]))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def hub():
    with running_hub() as hub:
        hub.publish(**{"train.jsonl": ONE, "corpus__wiki.jsonl": PASSAGES})
        yield hub


@pytest.fixture
def ask(hub, tmp_path):
    """Fetches addresses in a new process, because settings are read at start."""

    def ask(*addresses, **others):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *addresses],
            capture_output=True,
            text=True,
            env=os.environ | hub.environment(tmp_path / "cache") | others,
        )
        assert not done.returncode, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://a/b", ("a/b", "", "")),
        ("hf://a/b/c/d.jsonl", ("a/b", "c/d.jsonl", "")),
        ("hf://a/b/c.jsonl@v1", ("a/b", "c.jsonl", "v1")),
        ("hf://datasets/a/b@v1/c.jsonl", ("a/b", "c.jsonl", "v1")),
    ],
)
def test_addresses(address, parts):
    file = hub_file(address)
    assert (file.repo, file.file, file.revision) == parts
    assert hub_file(str(file)) == file


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://a/b@", "hf://a/b@1/c@2"])
def test_addresses_of_another_form(address):
    with pytest.raises(ValueError, match="expected hf://OWNER/NAME"):
        hub_file(address)


def test_a_file_is_fetched_once_and_its_commit_is_named(ask, hub):
    commit = hub.tags["main"]
    address = "hf://some/data/train.jsonl"
    [[named, path]] = ask(address)
    assert named == f"{address}@{commit}"
    assert Path(path).read_bytes() == ONE
    second = hub.publish(**{"train.jsonl": TWO})
    hub.tags["v1"] = commit
    found = ask(address, named, f"{address}@v1", address)
    assert [one[0].rpartition("@")[2] for one in found] == [
        *(second, commit, commit, second)
    ]
    assert [Path(path).read_bytes() for _, path in found] == [TWO, ONE, ONE, TWO]


def test_without_a_network_the_cache_answers(ask, hub):
    ask("hf://some/data/train.jsonl")
    num_requests = len(hub.requests)
    named = f"hf://some/data/train.jsonl@{hub.tags['main']}"
    answers = ask(
        *("hf://some/data/train.jsonl", named, "hf://some/data", "hf://other/data/x"),
        HF_HUB_OFFLINE="1",
    )
    assert [answer[0] for answer in answers[:3]] == [named] * 3
    assert answers[3].startswith("hf://other/data/x cannot be fetched: ")
    assert len(hub.requests) == num_requests


def test_a_data_set_with_several_files_names_them(ask):
    [said] = ask("hf://some/data")
    assert said == (
        "hf://some/data: the data set has 2 data files; give one: "
        "hf://some/data/corpus/wiki.jsonl, hf://some/data/train.jsonl"
    )


def test_what_cannot_be_fetched_says_why(ask):
    said = ask(
        *("hf://some/data/test.jsonl", "hf://some/data/train.jsonl@v9"),
        *("hf://some/other/train.jsonl", "hf://some/other"),
    )
    assert "some/data has no file 'test.jsonl' there" in said[0]
    assert "some/data has no revision 'v9'" in said[1]
    assert "the Hub has no data set some/other" in said[2]
    assert "the Hub has no data set some/other" in said[3]


def test_commits_are_no_branches():
    file = hub_file(f"hf://a/b/c.jsonl@{commit_of('x')}")
    assert file.is_pinned and not hub_file("hf://a/b/c.jsonl@main").is_pinned
    assert hub_file("hf://a/b").may_be(file)
    assert not hub_file("hf://a/b/other.jsonl").may_be(file)
    assert not hub_file("hf://a/b/c.jsonl@main").may_be(file)
