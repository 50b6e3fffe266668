"""Tests of the generated world: disjoint names, answerable, no gain from guessing."""

import random

import pytest

from jaxsearch.data import quickstart, quickstart_worlds
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.data.world import make_names, make_world, vocabulary
from jaxsearch.protocol import QUICKSTART, QUICKSTART_R1_SEARCHER
from jaxsearch.rewards.tasks import task_named
from jaxsearch.search.indexes import build_index
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.trajectory import Segment


@pytest.fixture(scope="module")
def dataset():
    return quickstart.dataset(None, 0)


def names_in(passages) -> set[str]:
    return {p.title for p in passages}


@pytest.mark.slow
def test_training_worlds_share_no_entity_with_the_heldout_one_or_each_other(dataset):
    heldout, worlds = quickstart_worlds.heldout_and_training_worlds(0)
    seen = names_in(heldout.passages)
    for world in worlds:
        names = names_in(world.passages)
        assert not seen & names
        seen |= names
    demonstrated = quickstart_worlds.demonstration_worlds(0)[:20]
    for world in demonstrated:
        assert not names_in(heldout.passages) & names_in(world.passages)


def test_no_seed_trains_on_a_name_that_another_holds_out():
    """The packaged policy was warmed up with one seed and is evaluated with others."""
    held_out, trained = set(), set()
    for seed in range(4):
        mine, others = quickstart_worlds._split_names(seed)
        held_out |= set(mine)
        trained |= set(others)
    assert len(held_out) > 500 and not held_out & trained


@pytest.mark.slow
def test_all_seeds_share_the_tokenizer_of_the_packaged_policy(dataset):
    packaged = Tokenizer.load("jaxsearch:quickstart")
    for seed in (1, 2):
        tokenizer = quickstart.dataset(None, seed).tokenizer
        for question in dataset.heldout[:50]:
            ids = tokenizer.encode(question.question)
            assert ids == packaged.encode(question.question)


def test_heldout_is_large_enough_and_has_every_kind(dataset):
    kinds = [q.metadata["hops"] for q in dataset.heldout]
    assert len(kinds) >= 150
    assert all(kinds.count(kind) >= 15 for kind in ("1", "2", "3", "comparison"))
    assert len({q.question for q in dataset.heldout}) == len(kinds)


def test_no_answer_stands_in_its_question(dataset):
    for question in [*dataset.heldout, *dataset.questions[:2000]]:
        [answer] = question.golden_answers
        assert answer not in question.question


def test_following_the_passages_gives_the_answer(dataset):
    """Answers by reading the named passage, as an oracle for the questions."""
    sentences = {p.title: p.text for p in dataset.heldout_passages}
    for question in dataset.heldout:
        steps = question.metadata["steps"]
        names = [step["query"] for step in steps]
        assert names[0] in question.question
        assert steps[-1]["found"] == question.golden_answers[0]
        assert question.golden_answers[0] in sentences[names[-1]]
        if question.metadata["hops"] == "comparison":
            first = steps[1]["think"].split()[0]
            second, wanted, place, winner, _ = steps[2]["think"].split()
            pick = min if wanted == "older" else max
            assert winner == pick((first, names[0]), (second, names[1]))[1]
            assert winner == names[("first", "second").index(place)] == names[2]
            assert first in sentences[names[0]] and second in sentences[names[1]]
            continue
        for name, following in zip(names, names[1:], strict=False):
            assert following in sentences[name]


def test_a_world_is_made_of_its_seed():
    def made(seed):
        rng = random.Random(seed)
        return make_world(rng, make_names()[:60], 50, prefix="w")

    assert made(3) == made(3)
    assert made(3) != made(4)


def test_heldout_text_has_no_unknown_piece(dataset):
    tokenizer = dataset.tokenizer
    texts = [q.question for q in dataset.heldout]
    texts += [QUICKSTART.observation([p]) for p in dataset.heldout_passages]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unknown_id not in ids
        assert tokenizer.decode(ids) == text


def test_vocabulary_has_no_heldout_name(dataset):
    _, worlds = quickstart_worlds.heldout_and_training_worlds(0)
    pieces = {piece.lstrip("▁") for piece in vocabulary(worlds)}
    assert not pieces & names_in(dataset.heldout_passages)


def test_a_flawless_demonstration_earns_the_full_reward(dataset):
    task = task_named("quickstart")
    passages = {p.title: p for p in dataset.heldout_passages}
    for question in dataset.heldout[:60]:
        demonstration = quickstart.demonstrate(
            question, passages, num_hops=len(question.metadata["steps"])
        )
        segments = []
        for turn, found in zip(
            demonstration.turns, [*demonstration.observations, ()], strict=True
        ):
            segments.append(Segment(text=turn, is_policy=True))
            if found:
                text = QUICKSTART.observation(found)
                segments.append(Segment(text=text, is_policy=False))
        outcome = task.judge(
            segments, question.golden_answers, has_ended=True, label="?"
        )
        assert outcome.reward == 1.0, outcome.reason


def r1_segments(demonstration):
    for turn, found in zip(
        demonstration.turns, [*demonstration.observations, ()], strict=True
    ):
        yield Segment(text=turn, is_policy=True)
        if found:
            text = QUICKSTART_R1_SEARCHER.observation(found)
            yield Segment(text=text, is_policy=False)


@pytest.mark.slow
def test_r1_searchers_demonstrations_earn_what_its_stages_pay(dataset):
    """Searching demonstrations earn both terms of stage 1, or all but the format's.

    Stage 2 subtracts 2 for the latter. Reluctant ones earn only stage 1's format term.
    """
    stage1 = task_named("quickstart_r1_searcher_stage1")
    stage2 = task_named("quickstart_r1_searcher_stage2")
    for demonstration in quickstart.r1_searcher_comparing(0)[:60]:
        golden = demonstration.question.golden_answers
        segments = list(r1_segments(demonstration))
        assert stage1.judge(segments, golden, has_ended=True, label="?").reward == 1.0
        assert stage2.judge(segments, golden, has_ended=True, label="?").reward == 1.0
    hasty = quickstart.r1_searcher_hasty(0)
    untagged = [d for d in hasty if "<answer>" not in d.turns[-1]]
    assert 0.79 < len(untagged) / len(hasty) < 0.81
    for demonstration in untagged[:60]:
        golden = demonstration.question.golden_answers
        segments = list(r1_segments(demonstration))
        assert stage1.judge(segments, golden, has_ended=True, label="?").reward == 0.5
        assert stage2.judge(segments, golden, has_ended=True, label="?").reward == -2.0
    reluctant = quickstart.r1_searcher_reluctant(0)
    searchless = [d for d in reluctant if not d.observations]
    assert 0.975 < len(searchless) / len(reluctant) < 0.985
    for demonstration in searchless[:60]:
        segments = list(r1_segments(demonstration))
        golden = demonstration.question.golden_answers
        assert stage1.judge(segments, golden, has_ended=True, label="?").reward == 0.5
        assert stage2.judge(segments, golden, has_ended=True, label="?").reward == 0.0


@pytest.mark.slow
def test_r1_searchers_vocabulary_knows_its_tags():
    dataset = quickstart.r1_searcher_dataset(None, 0)
    tokenizer = dataset.tokenizer
    demonstration = quickstart.r1_searcher_comparing(0)[0]
    prompt = QUICKSTART_R1_SEARCHER.prompt(demonstration.question.question)
    for text in [prompt, *(s.text for s in r1_segments(demonstration))]:
        ids = tokenizer.encode(text)
        assert tokenizer.unknown_id not in ids
        assert tokenizer.decode(ids) == text


def test_the_index_finds_an_entity_by_its_name(dataset):
    index = build_index(dataset.passages, TfidfEncoder.fit(dataset.passages, dims=512))
    names = [p.title for p in dataset.passages[:500]]
    found = index.search(names, 1)
    hits = [
        hits[0].passage.title == name for name, hits in zip(names, found, strict=True)
    ]
    assert sum(hits) / len(hits) >= 0.995


@pytest.mark.slow
def test_most_demonstrations_stop_too_early():
    demonstrations = quickstart.hasty_demonstrations(0)
    several = [d for d in demonstrations if len(d.question.metadata["steps"]) > 1]
    complete = [
        d for d in several if len(d.turns) == len(d.question.metadata["steps"]) + 1
    ]
    # Two steps are completed with probability 0.4 and three with 0.16; two thirds of
    # these questions (comparisons and three hops) have three steps.
    assert 0.2 < len(complete) / len(several) < 0.28
