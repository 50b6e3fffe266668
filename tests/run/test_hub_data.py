"""A run's record names the commits of its data sets, and a resumed run reads them."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.run.folder import check_identity, write_record
from jaxsearch.run.hub_data import with_commits
from jaxsearch.search.passages import read_passages
from tests.loopback_hub import running_hub
from tests.tiny import tiny_config

ONE = b'{"id": "1", "question": "Who?", "golden_answers": ["Ann"]}\n'
PASSAGES = b'{"id": "p", "contents": "Ann\\nAnn sat."}\n'
QUESTIONS = "hf://some/data/train.jsonl"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub in place of the one whose address is read when the library is imported."""
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        form = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        name = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(name, form)
        cache = str(tmp_path / "cache")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        hub.publish(**{"train.jsonl": ONE, "corpus.jsonl": PASSAGES})
        yield hub


def config_with(folder, questions, **more):
    config = tiny_config(folder)
    data = dataclasses.replace(config.data, questions=questions)
    return dataclasses.replace(config, data=data, **more)


def test_the_record_names_the_commit_that_a_resumed_run_reads(hub, tmp_path):
    first = hub.tags["main"]
    config = config_with(tmp_path / "run", QUESTIONS)
    pinned = with_commits(config)
    assert pinned.data.questions == f"{QUESTIONS}@{first}"
    write_record(pinned, "")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["identity"]["data"]["questions"] == f"{QUESTIONS}@{first}"
    second = hub.publish(**{"train.jsonl": ONE + ONE.replace(b"1", b"2")})
    # Without a revision the run continues with its own.
    for address in (QUESTIONS, f"{QUESTIONS}@{first}"):
        resumed = with_commits(config_with(tmp_path / "run", address))
        assert resumed.data.questions == pinned.data.questions
        check_identity(resumed)
    other = with_commits(config_with(tmp_path / "run", f"{QUESTIONS}@main"))
    assert other.data.questions == f"{QUESTIONS}@{second}"
    with pytest.raises(ValueError, match=r"holds another run: data\.questions is"):
        check_identity(other)
    new = with_commits(config_with(tmp_path / "new", QUESTIONS))
    assert new.data.questions == f"{QUESTIONS}@{second}"
    assert len(read_questions(new.data.questions)) == 2
    assert len(read_questions(pinned.data.questions)) == 1


def test_all_files_of_a_run_are_pinned(hub, tmp_path):
    commit = hub.tags["main"]
    config = config_with(tmp_path / "run", "")
    imitate, search = config.stages
    config = dataclasses.replace(
        config,
        stages=(imitate, dataclasses.replace(search, questions=QUESTIONS)),
        data=dataclasses.replace(config.data, heldout=QUESTIONS),
        retrieval=dataclasses.replace(
            config.retrieval, corpus="hf://some/data/corpus.jsonl"
        ),
    )
    found = with_commits(config)
    assert found.stages[1].questions == found.data.heldout == f"{QUESTIONS}@{commit}"
    corpus = f"hf://some/data/corpus.jsonl@{commit}"
    assert found.retrieval.corpus == corpus
    assert [passage.id for passage in read_passages(corpus)] == ["p"]
    local = config_with(tmp_path / "run", str(Path("questions.jsonl")))
    assert with_commits(local) is local
