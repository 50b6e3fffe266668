"""`jaxsearch data`: sets from files and from a Hub on loopback, by name."""

import json
import os
import subprocess
import sys

import pytest

from jaxsearch.commands.main import main
from tests.loopback_hub import commit_of, running_hub

ONE = b'{"id": "test_0", "question": "Who sat?", "golden_answers": ["Ann"]}\n'
TWO = ONE + ONE.replace(b"test_0", b"test_1").replace(b"Ann", b"Bea")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEARCH_DATA", str(tmp_path / "sets"))
    # The command chooses it for its own process.
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    return tmp_path / "sets"


@pytest.fixture
def data(capsys):
    """Runs the command; returns its status, its output and its errors."""

    def data(*words):
        status = main(["data", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return data


def test_a_set_of_ones_own(data, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(TWO)
    status, out, _ = data("prepare", "mine", "--from", str(path))
    assert status == 0 and out.startswith("mine/train\n") and str(path) in out
    status, out, _ = data("describe", "mine")
    assert status == 0
    assert [line.split() for line in out.splitlines() if "questions " in line] == [
        ["questions", "2"]
    ]
    _, out, _ = data("describe", f"mine=3,{path}")
    assert [line.split()[1] for line in out.splitlines() if "share" in line] == [
        *("0.75", "0.25")
    ]
    assert out.count("  questions  ") == 2
    status, out, _ = data("sample", "mine", "-n", "1", "--json")
    [line] = json.loads(out)["questions"]
    assert line["id"] in ("test_0", "test_1") and line["question"] == "Who sat?"
    status, out, _ = data("sample", "mine", "-n", "9", "--seed", "4")
    assert {"Ann", "Bea"} <= set(out.split()) and "Who sat?" in out


def test_metadata_does_not_replace_the_question_and_its_answers(data, tmp_path):
    path = tmp_path / "q.jsonl"
    metadata = {"answers": "no", "question": 3, "level": "hard"}
    line = {"id": "q", "question": "Who sat?", "golden_answers": ["Ann", "Bea"]}
    path.write_text(json.dumps(line | {"metadata": metadata}))
    _, out, _ = data("sample", str(path))
    assert [row.split(maxsplit=1) for row in out.splitlines()[1:]] == [
        ["question", "Who sat?"],
        ["answers", "Ann | Bea"],
        ["metadata", "answers         no"],
        ["metadata", "question        3"],
        ["level", "hard"],
    ]


def test_what_is_known_and_what_is_prepared(data, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_bytes(ONE)
    data("prepare", "musique", "--from", str(path))
    data("prepare", "own", "--from", str(path))
    _, out, _ = data("describe", "--json")
    sets = json.loads(out)
    assert [*sets][0] == "hotpotqa" and [*sets][-1] == "own" and len(sets) == 8
    assert sets["musique"] == {"splits": ["train", "dev"], "prepared": ["dev"]}
    _, out, _ = data("describe", "popqa")
    assert "arXiv:2212.10511" in out
    assert out.endswith("prepare it with `jaxsearch data prepare popqa`\n")


def test_text_of_a_set_cannot_act(data, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(ONE.replace(b"Who", b"\\u001b[2JWho"))
    data("prepare", "mine", "--from", str(path))
    _, out, _ = data("sample", "mine")
    assert "\x1b" not in out and "\\x1b[2JWho" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare", "hotpotq"], "unknown set 'hotpotq' (near it: hotpotqa); known: "),
        (["prepare", "nq", "--split", "full"], "it has train, dev, test"),
        (["describe", "nowhere"], "there is no set 'nowhere', and no such file"),
        (["describe", "q.txt"], "expected a file ending in .jsonl"),
        (["sample", "nq"], "not prepared in"),
        (["sample", "nq", "-n", "0"], "-n must be at least 1"),
        (["describe", "nq=x,popqa"], "expected a weight such as 2"),
    ],
)
def test_bad_input_is_one_line_and_status_2(data, words, said):
    status, out, err = data(*words)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1 and said in err


PROGRAM = """
import json, sys
from jaxsearch.commands.main import main
for words in json.loads(sys.argv[1]):
    print("status", main(["data", *words]), file=sys.stderr)
"""


def on_hub(hub, tmp_path, *commands, **others):
    """Runs commands in a process that knows the Hub; returns the lines of each."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        capture_output=True,
        text=True,
        env=os.environ | hub.environment(tmp_path / "cache") | others,
    )
    assert not done.returncode, done.stderr
    *parts, _ = done.stderr.split("status ")
    statuses = [int(part[0]) for part in done.stderr.split("status ")[1:]]
    said = [part[2:] if i else part for i, part in enumerate(parts)]
    return done.stdout, statuses, said


@pytest.mark.slow
def test_a_known_set_is_fetched_once_and_compared_ever_after(tmp_path, folder):
    prepare = ["prepare", "bamboogle", "--json"]
    with running_hub() as hub:
        hub.data_set = "RUC-NLPIR/FlashRAG_datasets"
        first = hub.publish(**{"bamboogle__test.jsonl": ONE})
        out, statuses, _ = on_hub(hub, tmp_path, prepare)
        assert statuses == [0]
        found = json.loads(out)["prepared"]["bamboogle/test"]
        address = "hf://RUC-NLPIR/FlashRAG_datasets/bamboogle/test.jsonl@"
        assert found["from"] == address + first and found["questions"] == 1
        second = hub.publish(**{"bamboogle__test.jsonl": TWO})
        newest = [*prepare, "--revision", "main"]
        out, statuses, said = on_hub(
            hub, tmp_path, prepare, newest, [*newest, "--replace"], ["prepare", "nq"]
        )
        assert statuses == [0, 2, 0, 2]
        # Without a revision the recorded one is compared.
        assert "bamboogle/test is already prepared from the same content" in said[0]
        assert f"was prepared from {address}{first}" in said[1]
        assert f"but {address}{second} is another file" in said[1]
        assert "has no file 'nq/train.jsonl' there" in said[3]
        again, replaced = map(json.loads, out.splitlines())
        assert again["prepared"]["bamboogle/test"] == found
        assert replaced["prepared"]["bamboogle/test"]["from"] == address + second
        # The Hub now has other bytes at the commit that was recorded.
        hub.files[second]["bamboogle/test.jsonl"] = ONE
        new = {"HF_HUB_CACHE": str(tmp_path / "empty")}
        _, statuses, said = on_hub(hub, tmp_path, prepare, **new)
        assert statuses == [2] and "is another file" in said[0]
        num_requests = len(hub.requests)
        offline = {"HF_HUB_OFFLINE": "1", "JAXSEARCH_DATA": str(tmp_path / "other")}
        out, statuses, said = on_hub(
            hub, tmp_path, prepare, ["prepare", "popqa"], **offline
        )
        assert statuses == [0, 2] and "cannot be fetched" in said[1]
        assert json.loads(out)["prepared"]["bamboogle/test"]["from"] == address + second
        assert len(hub.requests) == num_requests
    assert commit_of("0") == first
