"""Tests of the stream of training questions: order, processes, resuming."""

import json
import os
import subprocess
import sys

import pytest

from jaxsearch.data.question_store import open_questions
from jaxsearch.data.question_stream import QuestionStream
from tests.data.conftest import NUM_QUESTIONS


def ids(batch):
    return [question.id for _, question in batch]


def prompt_indices(batch):
    return [prompt_index for prompt_index, _ in batch]


def test_every_epoch_has_every_question_once_in_another_order(source):
    stream = QuestionStream(source, seed=0)
    # Batches of 4 straddle the epochs of 11.
    drawn = [pair for _ in range(11) for pair in stream.next_batch(4)]
    epochs = [ids(drawn[i : i + NUM_QUESTIONS]) for i in range(0, 44, NUM_QUESTIONS)]
    assert all(len(set(epoch)) == NUM_QUESTIONS for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    assert prompt_indices(drawn) == list(range(44))


def test_seeds_give_unrelated_orders(source):
    def two_epochs(seed):
        drawn = ids(QuestionStream(source, seed=seed).next_batch(2 * NUM_QUESTIONS))
        return drawn[:NUM_QUESTIONS], drawn[NUM_QUESTIONS:]

    assert two_epochs(0) == two_epochs(0)
    assert two_epochs(0)[0] != two_epochs(1)[0]
    # Grain's own `shuffle(seed)` makes these two equal.
    assert two_epochs(0)[1] != two_epochs(1)[0]


@pytest.mark.parametrize("process_count", [2, 3])
def test_processes_partition_the_stream(source, process_count):
    whole = QuestionStream(source, seed=5).next_batch(6 * NUM_QUESTIONS)
    parts = [
        QuestionStream(
            source, seed=5, process_index=index, process_count=process_count
        ).next_batch(len(whole) // process_count)
        for index in range(process_count)
    ]
    joined = [pair for part in parts for pair in part]
    assert len(set(prompt_indices(joined))) == len(whole)
    assert sorted(joined, key=lambda pair: pair[0]) == whole


@pytest.mark.parametrize("num_drawn", [0, 4, NUM_QUESTIONS, NUM_QUESTIONS + 3])
def test_resumed_stream_goes_on_exactly(source, num_drawn):
    def stream():
        return QuestionStream(source, seed=3, process_index=1, process_count=2)

    uninterrupted = stream()
    uninterrupted.next_batch(num_drawn)
    expected = uninterrupted.next_batch(2 * NUM_QUESTIONS)

    saved = stream()
    saved.next_batch(num_drawn)
    state = json.loads(json.dumps(saved.state()))
    saved.next_batch(2)  # drawn after the save: must not matter

    resumed = stream()
    resumed.restore(state)
    assert resumed.next_batch(2 * NUM_QUESTIONS) == expected
    saved.restore(state)
    assert saved.next_batch(2 * NUM_QUESTIONS) == expected


def test_orbax_saves_the_iterator(source, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint").v1
    stream = QuestionStream(source, seed=3)
    stream.next_batch(NUM_QUESTIONS + 2)
    with ocp.training.Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save_checkpointables(1, {"stream": stream.iterator})
        expected = stream.next_batch(5)
        resumed = QuestionStream(source, seed=3)
        checkpointer.load_checkpointables(1, {"stream": resumed.iterator})
    assert resumed.next_batch(5) == expected


def test_state_of_another_seed_is_refused(source):
    state = QuestionStream(source, seed=3).state()
    with pytest.raises(ValueError, match="seed"):
        QuestionStream(source, seed=4).restore(state)


def test_more_or_fewer_processes_go_on_where_others_stopped(source):
    two = [
        QuestionStream(source, seed=3, process_index=i, process_count=2) for i in (0, 1)
    ]
    for stream in two:
        stream.next_batch(6)
    assert two[0].state() == two[1].state()
    expected = QuestionStream(source, seed=3).next_batch(18)[12:]
    for process_count in (1, 3):
        drawn = []
        for index in range(process_count):
            stream = QuestionStream(
                source, seed=3, process_index=index, process_count=process_count
            )
            stream.restore(two[0].state())
            drawn += stream.next_batch(6 // process_count)
        assert sorted(drawn, key=lambda pair: pair[0]) == expected


def test_what_cannot_be_shared_out_is_not_resumed(source):
    one = QuestionStream(source, seed=3)
    one.next_batch(5)
    two = QuestionStream(source, seed=3, process_index=0, process_count=2)
    with pytest.raises(ValueError, match="is not divisible by 2 processes"):
        two.restore(one.state())


def test_state_of_other_questions_is_refused(source, questions, tmp_path):
    state = QuestionStream(source, seed=3).state()
    fewer = open_questions(questions[1:], tmp_path / "cache")
    with pytest.raises(ValueError, match="fingerprint"):
        QuestionStream(fewer, seed=3).restore(state)


@pytest.mark.parametrize("process_index", [-1, 2])
def test_process_index_out_of_range(source, process_index):
    with pytest.raises(ValueError, match="process_index must be in 0..1"):
        QuestionStream(source, seed=0, process_index=process_index, process_count=2)


def test_one_question_repeats_for_ever(questions, tmp_path):
    source = open_questions(questions[:1], tmp_path)
    assert QuestionStream(source, seed=0).next_batch(3) == [
        (position, questions[0]) for position in range(3)
    ]


SCRIPT = """
import sys
from jaxsearch.data.question import Question
from jaxsearch.data.question_store import open_questions
from jaxsearch.data.question_stream import QuestionStream
questions = [
    Question(id=f"q{i}", question="?", golden_answers=("a",), metadata={"b": 1, "a": 2})
    for i in range(30)
]
source = open_questions(questions, sys.argv[1])
stream = QuestionStream(source, seed=0)
print(source.fingerprint, [question.id for _, question in stream.next_batch(45)])
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
def test_order_depends_on_neither_folder_nor_hash_seed(tmp_path):
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path / hash_seed],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
