import gzip
import json
import pathlib
import random
import re
import unicodedata
from collections import defaultdict

import pytest

from jaxsearch.data.demonstrations import Demonstration, demonstrate
from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question
from jaxsearch.data.sample import (
    dataset_with_heldout,
    demonstrations,
    reading_demonstrations,
    sample_passages_path,
    sample_questions_path,
)
from jaxsearch.search.passages import Passage

SHARED_QUESTIONS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "questions"


def read_passages():
    with gzip.open(sample_passages_path(), "rt", encoding="utf-8") as file:
        return [Passage(**json.loads(line)) for line in file]


@pytest.fixture(scope="module")
def questions():
    return read_questions(sample_questions_path())


@pytest.fixture(scope="module")
def passages():
    return read_passages()


def test_sizes(questions, passages):
    assert len(questions) == 300
    assert len(passages) == len({passage.id for passage in passages}) == 2143
    folder = sample_questions_path().parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_every_supporting_title_is_there_among_many_others(questions, passages):
    supporting = {t for q in questions for t in q.metadata["supporting_titles"]}
    titles = [passage.title for passage in passages]
    assert supporting <= set(titles)
    # Retrieval is not trivial: most passages do not support any question.
    assert sum(title in supporting for title in titles) < len(titles) / 2
    assert all(passage.text.strip() for passage in passages)


def plain(text):
    ascii_letters = unicodedata.normalize("NFKD", text.lower()).encode(
        "ascii", "ignore"
    )
    return re.sub(r"[^a-z0-9]+", " ", ascii_letters.decode()).strip()


def test_answers_can_be_read_in_the_supporting_passages(questions, passages):
    contents = defaultdict(str)
    for passage in passages:
        contents[passage.title] += passage.contents
    for question in questions:
        titles = question.metadata["supporting_titles"]
        read = plain(" ".join(contents[title] for title in titles))
        answers = [plain(answer) for answer in question.golden_answers]
        assert any(a in ("yes", "no") or a in read for a in answers), question


def development_questions():
    names = ("hotpotqa_dev", "musique_dev", "bamboogle")
    paths = [SHARED_QUESTIONS / f"{name}.jsonl.gz" for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip(f"needs the development questions in {SHARED_QUESTIONS}")
    found = [question for path in paths for question in read_questions(path)]
    assert len(found) > 800
    return found


def test_no_development_question_is_in_the_sample(questions):
    development = development_questions()
    ids = {question.id for question in questions}
    texts = {plain(question.question) for question in questions}
    assert not ids & {question.id for question in development}
    assert not texts & {plain(question.question) for question in development}


def test_files_hold_no_time_of_writing():
    for path in (sample_questions_path(), sample_passages_path()):
        assert path.read_bytes()[4:8] == bytes(4)  # MTIME of RFC 1952


def question_of(*titles, text="Where was the author of Emma born?"):
    return Question(
        id="q",
        question=text,
        golden_answers=("Steventon", "Steventon, Hampshire"),
        metadata={"supporting_titles": list(titles)},
    )


EMMA = Passage(id="1", contents='"Emma (novel)"\nA novel by Jane Austen.')
AUSTEN = Passage(id="2", contents='"Jane Austen"\nShe was born in Steventon.')
AUSTEN_MORE = Passage(id="3", contents='"Jane Austen"\nShe died in 1817.')
CORPUS = [EMMA, AUSTEN, Passage(id="4", contents="Ox\nAn animal."), AUSTEN_MORE]


def test_titles_are_searched_once_they_are_named():
    [demonstration] = demonstrations(
        [question_of("Jane Austen", "Emma (novel)")], CORPUS, seed=0
    )
    # The question names Emma, and only Emma's page names Jane Austen.
    assert demonstration.observations == ((EMMA,), (AUSTEN, AUSTEN_MORE))
    first, second, last = demonstration.turns
    assert first.startswith("<think> ")
    assert first.endswith(" </think> <search> Emma (novel) </search>")
    assert second.startswith(" <think> ")
    assert second.endswith(" </think> <search> Jane Austen </search>")
    assert last.startswith(" <think> ")
    assert last.endswith(
        r" </think> <answer> The final answer is \[ \boxed{Steventon} \] </answer>"
    )


def test_titles_that_nothing_names_keep_their_order():
    question = question_of("Ox", "Jane Austen", text="Who?")
    [demonstration] = demonstrations([question], CORPUS, seed=0)
    assert [found[0].title for found in demonstration.observations] == [
        "Ox",
        "Jane Austen",
    ]


def test_a_title_given_twice_is_searched_once():
    question = question_of("Ox", "Ox")
    [demonstration] = demonstrations([question], CORPUS, seed=0)
    assert len(demonstration.turns) == 2


@pytest.mark.parametrize("titles", [("Emma (novel)", "Ulysses"), ()])
def test_unsupported_question_is_refused(titles):
    with pytest.raises(ValueError, match="question q: expected metadata.support"):
        demonstrations([question_of(*titles)], CORPUS, seed=0)


def test_demonstration_without_an_observation_per_search():
    with pytest.raises(ValueError, match="1 turns and 1 observations"):
        Demonstration(question=question_of(), turns=("",), observations=((EMMA,),))


def test_no_search_needed():
    demonstration = demonstrate(question_of(), [], rng=random.Random(0))
    assert demonstration.observations == ()
    [turn] = demonstration.turns
    assert turn.startswith("<think> ")


def test_sample_demonstrations_are_well_formed(questions, passages):
    turn = re.compile(r"<think> [^<>]+ </think> <search> ([^<>]+) </search>")
    answer = re.compile(
        r" <think> [^<>]+ </think> <answer> .*\\boxed\{.+\} .* </answer>"
    )
    all_demonstrations = demonstrations(questions, passages, seed=0)
    assert [d.question for d in all_demonstrations] == questions
    for demonstration in all_demonstrations:
        *searches, last = demonstration.turns
        queries = [turn.fullmatch(text.removeprefix(" "))[1] for text in searches]
        assert sorted(queries) == sorted(
            demonstration.question.metadata["supporting_titles"]
        )
        assert [text.startswith(" ") for text in searches] == [
            index > 0 for index in range(len(searches))
        ]
        assert answer.fullmatch(last)


def test_wording_varies_with_the_seed_and_not_with_the_company(questions, passages):
    first = demonstrations(questions, passages, seed=0)
    assert demonstrations(questions[10:20], passages, seed=0) == first[10:20]
    other = demonstrations(questions, passages, seed=1)
    assert sum(a.turns != b.turns for a, b in zip(first, other, strict=True)) > 200
    assert [d.observations for d in first] == [d.observations for d in other]
    openings = {d.turns[0].partition(" <search>")[0].split()[1] for d in first}
    assert len(openings) > 1


def test_a_sixth_is_held_out_and_shares_no_question(questions, tmp_path):
    found = dataset_with_heldout(tmp_path, 0)
    assert (len(found.questions), len(found.heldout)) == (250, 50)
    ids = [q.id for q in (*found.questions, *found.heldout)]
    assert sorted(ids) == sorted(q.id for q in questions)
    # Both kinds of questions, and the same passages for them.
    assert len({q.id.split("_")[0] for q in found.heldout}) > 1
    assert found.passages and not found.heldout_passages


@pytest.fixture(scope="module")
def read_ones():
    return reading_demonstrations(seed=0)


@pytest.mark.slow
def test_a_reading_demonstration_searches_once_and_answers(read_ones):
    turn = re.compile(r"<think> ([^<>]+) </think> <search> ([^<>]+) </search>")
    answer = re.compile(
        r" <think> ([^<>]+) </think> <answer> \\boxed\{([^<>]+)\} </answer>"
    )
    queries = set()
    for one in read_ones:
        search, last = one.turns
        thought, query = turn.fullmatch(search).groups()
        conclusion, boxed = answer.fullmatch(last).groups()
        text, titles = one.question.question, one.question.metadata["supporting_titles"]
        # The policy can know the query, and no thought repeats it.
        assert query == text or any(title.startswith(query) for title in titles)
        assert query.casefold() in text.casefold()
        assert len(thought.split()) < 8 and query not in thought
        assert boxed == one.question.golden_answers[0]
        assert plain(boxed) in plain(conclusion)
        assert len(one.observations[0]) == 2
        read = plain(" ".join(passage.contents for passage in one.observations[0]))
        # A title may precede the sentence.
        sentence = conclusion.partition(": ")[2]
        assert plain(conclusion) in read or (sentence and plain(sentence) in read)
        assert len(conclusion.split()) <= 30
        queries.add(query == text)
    assert queries == {True, False}
    assert len({(one.question.id, one.turns) for one in read_ones}) == len(read_ones)


def test_no_held_out_question_is_demonstrated(read_ones, tmp_path):
    heldout = {question.id for question in dataset_with_heldout(tmp_path, 0).heldout}
    shown = {one.question.id for one in read_ones}
    assert len(shown) > 100 and len(read_ones) > 150
    assert not shown & heldout
    assert not shown & {question.id for question in development_questions()}


@pytest.mark.slow
def test_fewer_words_leave_fewer_demonstrations_and_a_seed_their_wording(read_ones):
    short = reading_demonstrations(seed=1, num_words=30)
    assert 20 < len(short) < len(read_ones) / 1.5
    assert {one.observations for one in short} <= {
        one.observations for one in read_ones
    }
    assert not {one.turns for one in short} <= {one.turns for one in read_ones}
