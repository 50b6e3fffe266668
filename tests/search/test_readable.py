"""Tests of questions whose answer can be read in what a search finds."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.build_settings import BuildSettings
from jaxsearch.search.passages import Passage, write_passages
from jaxsearch.search.question_recall import SearchQuestion
from jaxsearch.search.readable import is_readable, readable

PASSAGES = [
    Passage(id="1", contents='"Alien"\nNo, Ridley Scott directed Alien.'),
    Passage(id="2", contents='"Plzeň"\nYes: its beer is a Pilsner.'),
]


@pytest.mark.parametrize(
    ("answers", "num_words", "expected"),
    [
        (["RIDLEY scott!"], 0, True),
        (["Scott Ridley"], 0, False),
        (["Scot"], 0, False),
        (["plzen"], 0, True),
        (["Kubrick", "Pilsner"], 0, True),
        # Words are counted over both passages, with their titles: 6, then 7.
        (["Pilsner"], 13, True),
        (["Pilsner"], 12, False),
        (["Plzen"], 7, True),
        (["Plzen"], 6, False),
        # What the policy cannot read as an answer.
        (["no"], 0, False),
        (["Yes"], 0, False),
        (["?"], 0, False),
    ],
)
def test_an_answer_is_read_as_whole_words(answers, num_words, expected):
    assert is_readable(answers, PASSAGES, num_words=num_words) is expected


FILES = {
    "Who directed Alien?": "Ridley Scott",
    "Which beer is of Plzeň?": "Pilsner",
    "Did Ridley Scott direct Alien?": "yes",
    "Who directed Aliens?": "James Cameron",
}


@pytest.fixture
def folder(tmp_path):
    write_passages(PASSAGES, tmp_path / "corpus.jsonl.gz")
    build_index_folder(
        corpus=tmp_path / "corpus.jsonl.gz",
        encoder="bm25",
        out=tmp_path / "index",
        settings=BuildSettings(),
    )
    lines = [
        {"id": str(i), "question": q, "golden_answers": [a], "metadata": {"n": i}}
        for i, (q, a) in enumerate(FILES.items())
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "questions.jsonl").write_text(text)
    return tmp_path


def chosen(folder, *options):
    questions, out = folder / "questions.jsonl", folder / "chosen.jsonl"
    words = ["index", "select", folder / "index", "--questions", questions]
    return main([*map(str, words), "--out", str(out), *options]), out


def test_readable_questions_are_written_as_they_were(folder, capsys):
    status, out = chosen(folder, "-k", "1", "--json")
    assert status == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "n": 4, "kept": 2}
    lines = (folder / "questions.jsonl").read_text().splitlines()
    kept = out.read_text().splitlines()
    assert [json.loads(line) for line in kept] == [json.loads(x) for x in lines[:2]]


def test_fewer_words_keep_fewer_questions(folder):
    status, out = chosen(folder, "-k", "1", "--words", "5")
    assert status == 0 and len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--words", "1"], "no answer of the 4 questions in "),
        (["-k", "0"], "expected at least 1 passage"),
        (["--words", "-1"], "and -1 words"),
        (["--out", "chosen.jsonl.gz"], "written to a file named *.jsonl"),
        (["--out", "absent/chosen.jsonl"], "there is no such folder"),
    ],
)
def test_nothing_is_written_for_bad_input(folder, capsys, options, said):
    status, out = chosen(folder, *options)
    assert status == 2 and not out.exists()
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_file_that_exists_is_left_alone(folder, capsys):
    (folder / "chosen.jsonl").write_text("mine")
    status, out = chosen(folder)
    assert status == 2 and "name a new file" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_the_question_is_what_is_searched_for():
    class Recording:
        def search(self, queries, k):
            self.asked = (list(queries), k)
            return [[] for _ in queries]

    index = Recording()
    questions = [SearchQuestion(question="Who?", golden_answers=("x",))]
    assert readable(index, questions, num_passages=3) == [False]
    assert index.asked == (["Who?"], 3)
