"""Rollouts, scores, evaluation and training in memory, with the packaged policy."""

import gc
import inspect
import json
import re

import jax
import numpy as np
import pytest

import jaxsearch
from jaxsearch.api.session import open_session
from jaxsearch.rewards.score import score_file
from jaxsearch.search.index import SearchStoppedError
from tests.api.conftest import ONE_HOP, PASSAGES, TWO_HOPS


@pytest.fixture(scope="module")
def trajectories(policy, retriever):
    return jaxsearch.rollout(
        policy, [ONE_HOP, TWO_HOPS[0]], retriever=retriever, temperature=0.0
    )


def test_a_rollout_has_tokens_masks_logprobs_and_searches(policy, trajectories):
    one, two = trajectories
    assert [call.query for call in one.searches] == ["Parruk"]
    assert one.searches[0].passage_ids == ("0",)
    size = len(one.tokens)
    for array in (one.is_policy, one.logprobs, one.sampling_logprobs):
        assert array.shape == (size,)
    text = policy.tokenizer.decode(one.tokens[one.is_policy])
    assert "Zegbol" in text and "married" not in text
    assert (one.logprobs[one.is_policy] <= 0).all()
    assert one.golden_answers == ("Zegbol",) and two.golden_answers == ()


@pytest.mark.slow
def test_the_answers_of_a_group_differ_and_the_seed_repeats_them(policy, retriever):
    def rolled_out(seed):
        found = jaxsearch.rollout(
            policy,
            TWO_HOPS,
            retriever=retriever,
            group_size=6,
            temperature=2.0,
            seed=seed,
        )
        assert [one.sample_index for one in found] == list(range(6))
        return [one.tokens.tolist() for one in found]

    first = rolled_out(0)
    assert len({*map(tuple, first)}) > 1
    assert rolled_out(0) == first
    assert rolled_out(1) != first


def test_the_page_shows_who_wrote_what(trajectories):
    one, two = (trajectory._repr_html_() for trajectory in trajectories)
    assert re.search(r'class="masked"[^>]*>[^<]*was born in Zegbol', one)
    assert not re.search(r'class="policy">[^<]*was born in', one)
    assert '<code class="tag">&lt;search&gt;</code>' in one
    assert "<dt>Gold</dt>" in one and "<dt>Reward</dt>" in one
    # Without a golden answer there is no reward to show.
    assert "<dt>Gold</dt>" not in two and "<dt>Reward</dt>" not in two
    style = one[one.index("<style>") + 7 : one.index("</style>")]
    assert style.startswith(".jaxsearch {") and style.count("{") == style.count("}")


def test_reprs_of_results_are_short(policy, retriever, trajectories):
    [one, _] = trajectories
    assert repr(one) == (
        f"TaskTrajectory({ONE_HOP[0]!r}, answered, searches 1, tokens "
        f"{len(one.tokens)}, by the policy {one.is_policy.sum()})"
    )
    found = jaxsearch.evaluate(policy, [ONE_HOP, TWO_HOPS], retriever=retriever)
    assert repr(found).startswith("Evaluation(n 2, em 0.500, f1 0.500, mean_reward")


def test_an_evaluation_is_saved_as_the_command_does(policy, retriever, tmp_path):
    found = jaxsearch.evaluate(policy, [ONE_HOP, TWO_HOPS], retriever=retriever)
    found.save(tmp_path / "saved")
    results = json.loads((tmp_path / "saved/results.json").read_text())
    assert results["recipe"] == "quickstart" and results["em"] == 0.5
    summary = score_file(tmp_path / "saved/predictions.jsonl", "quickstart")
    for name in ("em", "f1", "mean_reward"):
        assert summary[name] == pytest.approx(results[name])
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        found.save(tmp_path / "saved")


def batched(questions, answers, *, searches, rows):
    return [{"many": float(len(questions))} for _ in questions]


def test_scores_are_those_of_a_reward_of_ones_own(trajectories):
    [one, _] = trajectories
    [outcome] = jaxsearch.score(one, reward=words)
    assert outcome.terms == {"words": 1.0, "searches": -1.0}
    assert outcome.reward == 0.0 and outcome.findings["em"] == 1.0
    # All rollouts of a task at once.
    both = jaxsearch.score([one, one], reward=[(batched, 0.5)])
    assert [outcome.reward for outcome in both] == [1.0, 1.0]
    with pytest.raises(ValueError, match="must accept"):
        jaxsearch.score(one, reward=lambda answer: 1.0)


def test_scores_are_those_of_the_task(trajectories):
    [one, two] = trajectories
    [outcome] = jaxsearch.score(one)
    assert outcome == one.outcome
    assert (outcome.reward, outcome.findings["em"]) == (1.0, 1.0)
    # R1-Searcher's reward does not know these tags.
    [other] = jaxsearch.score([one], "r1_searcher_stage1")
    assert other.reward == 0.0
    with pytest.raises(ValueError, match="has no golden answer"):
        jaxsearch.score([one, two])
    plain = jaxsearch.Trajectory(
        **{
            name: vars(one)[name]
            for name in inspect.signature(jaxsearch.Trajectory).parameters
        }
    )
    with pytest.raises(ValueError, match="do not know their task: give task="):
        jaxsearch.score(plain)
    assert jaxsearch.score(plain, one.task) == [outcome]


@pytest.mark.slow
def test_a_sharded_policy_writes_the_same(policy, retriever, trajectories):
    on_two = jaxsearch.shard(policy, jaxsearch.MeshShape(data=1, fsdp=2))
    again = jaxsearch.rollout(
        on_two, [ONE_HOP, TWO_HOPS], retriever=retriever, temperature=0.0
    )
    for one, other in zip(trajectories, again, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


def test_calls_with_the_same_network_share_its_weight_sync(policy, retriever):
    options = dict.fromkeys(("task", "budgets", "environment", "num_passages"))
    runs = [
        open_session(one, retriever=retriever, seed=0, **options)
        for one in (policy, jaxsearch.load_policy("jaxsearch:quickstart"))
    ]
    assert runs[0].weight_sync is runs[1].weight_sync


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there is nothing to search: give retriever="),
        ({"retriever": PASSAGES, "task": "reserch"}, "did you mean research"),
        ({"retriever": PASSAGES, "group_size": 0}, "group_size >= 1"),
        ({"retriever": PASSAGES, "temperature": -1.0}, "temperature >= 0"),
        ({"retriever": "none.tsv"}, "neither a corpus file nor an index folder"),
    ],
    ids=str,
)
def test_rollouts_that_cannot_begin(policy, options, message):
    with pytest.raises(ValueError, match=message):
        jaxsearch.rollout(policy, ONE_HOP, **options)


def test_a_prompt_beyond_its_budget_is_named(policy, retriever):
    with pytest.raises(ValueError, match=r"question '1' has \d+ tokens; expected 1 to"):
        jaxsearch.rollout(policy, ["Who?", "Who? " * 200], retriever=retriever)


def test_steps_train_a_copy_of_the_policy(policy, retriever, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Copies: an array that numpy reads is not donated.
    before = jax.tree.map(np.array, policy.params)
    trainer = jaxsearch.Trainer(
        policy,
        retriever=retriever,
        group_size=6,
        temperature=2.0,
        learning_rate=1e-3,
    )
    metrics = trainer.step([ONE_HOP, TWO_HOPS])
    assert all(isinstance(value, float) for value in metrics.values())
    assert {"reward/mean", "em", "loss", "grad_norm", "kl"} <= metrics.keys()
    assert metrics["without_advantage"] == 0.0 and metrics["grad_norm"] > 0
    assert len(trainer.trajectories) == 12 and trainer.num_steps == 1
    first = trainer.policy
    kept = jax.tree.map(np.array, first.params)
    trainer.step(TWO_HOPS)
    # Other questions of the stream, and so other random numbers.
    assert {one.prompt_index for one in trainer.trajectories} == {2}
    last = trainer.policy
    same = jax.tree.map(np.array_equal, before, policy.params)
    assert all(jax.tree.leaves(same))
    same = jax.tree.map(np.array_equal, kept, first.params)
    assert all(jax.tree.leaves(same))
    for one, other in ((before, kept), (kept, last.params)):
        assert not np.array_equal(one["embedding"], other["embedding"])
    assert repr(trainer).endswith("2 steps)") and "\n" not in repr(trainer)
    assert not list(tmp_path.iterdir())


def test_a_step_that_fails_frees_what_rollouts_hold(policy):
    class Refusing:
        def search(self, queries, k):
            raise SearchStoppedError("the key is refused")

    def num_bytes():
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    trainer = jaxsearch.Trainer(policy, retriever=Refusing(), group_size=2)
    before = num_bytes()
    with pytest.raises(SearchStoppedError):
        trainer.step([ONE_HOP])
    params = sum(array.nbytes for array in jax.tree.leaves(policy.params))
    assert num_bytes() < before + params // 2


def words(question, answer, *, searches, row):
    """A reward that no task gives."""
    return {"words": float(len((answer or "").split())), "searches": -len(searches)}


def test_with_lora_and_an_own_reward_only_the_adapters_are_trained(retriever):
    model = jaxsearch.ModelConfig(
        path="jaxsearch:quickstart", lora=jaxsearch.LoRAConfig(rank=2)
    )
    policy = jaxsearch.load_policy(model)
    trainer = jaxsearch.Trainer(
        policy,
        retriever=retriever,
        group_size=6,
        temperature=2.0,
        learning_rate=1e-3,
        reward=words,
    )
    metrics = trainer.step(TWO_HOPS)
    # A trajectory shows the reward that it was trained with.
    outcomes = [trajectory.outcome for trajectory in trainer.trajectories]
    assert all(outcome.terms.keys() == {"words", "searches"} for outcome in outcomes)
    rewards = [outcome.reward for outcome in outcomes]
    assert np.mean(rewards) == pytest.approx(metrics["reward/mean"])
    trained = trainer.policy.params
    adapters, before = trained["adapters"], policy.params["adapters"]
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, adapters, before)))
    assert trained["embedding"] is policy.params["embedding"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groupsize": 4}, "no argument 'groupsize'; did you mean group_size"),
        ({"lr": 1e-3}, "no argument 'lr'"),
        ({"max_draws": 2}, "no argument 'max_draws'"),
        ({"group_size": 1}, "group_size must be at least 2"),
        ({"learning_rate": -1.0}, "learning_rate"),
        (
            {"learning_rate": 1.0, "optimizer": jaxsearch.OptimizerConfig()},
            "exclude each other",
        ),
        ({"retriever": None}, "there is nothing to search"),
    ],
    ids=str,
)
def test_trainers_that_cannot_be_made(policy, retriever, options, message):
    with pytest.raises(ValueError, match=message):
        jaxsearch.Trainer(policy, **{"retriever": retriever, **options})
