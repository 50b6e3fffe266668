"""Effects of a failing retriever on updates, evaluations and runs."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.config import RetrievalConfig, RolloutConfig, SupervisedStage
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.protocol import QUICKSTART
from jaxsearch.report.write_report import write_report
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import task_named
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.credit import estimate_advantages
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.rows import rollout_row
from jaxsearch.rl.update import Updater, begin_stage
from jaxsearch.run import environments as run_module
from jaxsearch.run.config_record import identity
from jaxsearch.run.options import RunOptions
from jaxsearch.run.retrievers import open_retrievers
from jaxsearch.search.index import SearchError
from jaxsearch.train import TrainingFailedError, train
from jaxsearch.trajectory import (
    Segment,
    Status,
    ToolCall,
    Trajectory,
)
from tests.tiny import reading_demonstrations, tiny_config

VOCAB = 16


def make_trajectory(rng, prompt_index, sample_index, status=Status.ENDED, text="x"):
    length = int(rng.integers(6, 12))
    is_policy = rng.random(length) < 0.6
    is_policy[:2] = [False, True]
    return Trajectory(
        question_id=f"q{prompt_index}",
        question="Who?",
        golden_answers=("Dorvin",),
        prompt_index=prompt_index,
        sample_index=sample_index,
        tokens=rng.integers(0, VOCAB, length, dtype=np.int32),
        is_policy=is_policy,
        logprobs=rng.uniform(-3, -2, length).astype(np.float32),
        sampling_logprobs=np.zeros(length, np.float32),
        prompt_len=1,
        segments=(Segment(text=text, is_policy=True),),
        tool_calls=(ToolCall(query="a", passage_ids=()),),
        status=status,
    )


def outcome(reward):
    return Outcome(reward=reward, terms={}, reason="", prediction=None)


def estimate(trajectories, outcomes, estimator=group_relative, group_size=4):
    return estimate_advantages(
        trajectories, outcomes, estimator=estimator, group_size=group_size
    )


def kept_rows(trajectories, advantages):
    return [
        rollout_row(t, a)
        for t, a in zip(trajectories, advantages, strict=True)
        if a is not None
    ]


def gradient(rows):
    """Gradient of a token mean with KL and entropy, for a one-token policy."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "embedding": jax.random.normal(keys[0], (VOCAB, 8)),
        "head": 0.3 * jax.random.normal(keys[1], (VOCAB, 8)),
    }
    updater = Updater(
        forward=lambda params, tokens, segments: params["embedding"][tokens],
        head=lambda params: params["head"],
        objective=PolicyObjective(kl_weight=0.1, entropy_weight=0.1),
        optimizer=make_optimizer(OptimizerConfig(), 10),
    )
    state = begin_stage(params, updater.optimizer, needs_reference=True)
    noise = 0.1 * jax.random.normal(keys[2], (VOCAB, 8))
    state = state._replace(reference=jax.tree.map(lambda x: x + noise, state.reference))
    batches = list(microbatches(rows, row_lens=(16,), max_tokens=48))
    sums, metrics = updater.gradient_sums(state, batches)
    return jax.tree.map(lambda x: np.asarray(x / metrics["loss"].weight), sums)


def test_an_update_is_as_if_the_dropped_rollouts_had_never_been():
    rng = np.random.default_rng(0)
    statuses = [Status.ENDED] * 8
    for i in (2, 4, 5, 6):  # one rollout of the first group, all but one of the second
        statuses[i] = Status.TOOL_FAILED
    trajectories = [
        make_trajectory(rng, i // 4, i % 4, status) for i, status in enumerate(statuses)
    ]
    rewards = [1.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]
    outcomes = [outcome(r) for r in rewards]
    advantages = estimate(trajectories, outcomes)
    assert [a is None for a in advantages] == [not t.is_kept for t in trajectories]
    rows = kept_rows(trajectories, advantages)
    alone = group_relative(jnp.array([[1.0, 0.0, 0.3]]))[0].tolist()
    expected = [
        rollout_row(t, advantage)
        for t, advantage in zip(
            [trajectories[i] for i in (0, 1, 3, 7)], [*alone, 0.0], strict=True
        )
    ]
    for got, want in zip(
        jax.tree.leaves(gradient(rows)),
        jax.tree.leaves(gradient(expected)),
        strict=True,
    ):
        assert np.linalg.norm(want) > 0.0
        assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("task", ["research", "research_paper", "quickstart"])
def test_a_failed_search_counts_as_wrong_whatever_was_written(task):
    """The paper's reward accepts an answer at any position."""
    text = "<think> a </think> <answer> \\boxed{Dorvin} </answer> <search> b </search>"
    rng = np.random.default_rng(0)
    trajectories = [
        make_trajectory(rng, 0, i, status, text)
        for i, status in enumerate((Status.TOOL_FAILED, Status.OUT_OF_CALLS))
    ]
    _, (failed, other), (scores, _) = judge(trajectories, task_named(task))
    assert (failed.reward, failed.prediction) == (0.0, None)
    assert "search failed" in failed.reason
    assert scores == {"em": 0.0, "f1": 0.0, "cover_em": 0.0}
    if task == "research_paper":
        assert other.reward == 1.0


def test_a_reader_on_the_terminal_sees_why_a_search_failed(capsys):
    one = make_trajectory(np.random.default_rng(0), 0, 0, Status.TOOL_FAILED)
    failed = ToolCall(query="b", passage_ids=(), has_failed=True, failure="no reply")
    whole = dataclasses.replace(one, tool_calls=(*one.tool_calls, failed))
    print_trajectory(whole, QUICKSTART)
    shown = capsys.readouterr().out
    assert "fails  b: no reply" in shown and "(search_failed)" in shown
    assert shown.count("fails") == 1


# ------------------------------------------------------------------------- whole runs


def searching_demonstrations(seed):
    """Demonstrations with the same search, so that every rollout soon searches."""
    return [
        Demonstration(
            question=one.question,
            turns=(
                "<search> Bakfel </search>",
                " <think> so </think> <answer> \\boxed{ Bakfel } </answer>",
            ),
            observations=(one.observations[0],),
        )
        for one in reading_demonstrations(seed)[:50]
    ]


class UnsteadyIndex:
    """Fails at the tries that `is_failing` names; counts from 0."""

    def __init__(self, index, is_failing):
        self.index, self.is_failing, self.num_tries = index, is_failing, 0

    def search(self, queries, k):
        self.num_tries += 1
        if self.is_failing(self.num_tries - 1):
            raise SearchError("away")
        return self.index.search(queries, k)


@pytest.fixture
def unsteady(monkeypatch):
    """Makes the indexes for training and evaluation fail at some tries."""

    def make(training, evaluation):
        def open_unsteady(*arguments):
            train_index, heldout_index = open_retrievers(*arguments)
            return (
                UnsteadyIndex(train_index, training),
                UnsteadyIndex(heldout_index, evaluation),
            )

        monkeypatch.setattr(run_module, "open_retrievers", open_unsteady)

    return make


def never(number):
    return False


def always(number):
    return True


def searching_config(out, **rollout):
    config = tiny_config(out)
    _, search = config.stages
    warm_up = SupervisedStage(
        name="search first",
        demonstrations=searching_demonstrations,
        steps=60,
        batch_size=8,
        max_tokens=1024,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
    )
    return dataclasses.replace(
        config,
        stages=(warm_up, dataclasses.replace(search, steps=2, max_skipped=2)),
        retrieval=dataclasses.replace(config.retrieval, attempts=2, min_kept=0.0),
        rollout=dataclasses.replace(config.rollout, **rollout),
        eval=dataclasses.replace(config.eval, every=0, limit=4),
    )


@pytest.mark.long
def test_a_run_leaves_out_what_its_retriever_failed(unsteady, tmp_path):
    """The first batch fails twice, the second once; evaluations always fail."""
    unsteady(lambda number: number in (0, 1, 2), always)
    config = searching_config(tmp_path / "run")
    train(config)
    first, second = read_metrics(tmp_path / "run" / "metrics.jsonl")[60:]
    rollouts = read_rollouts(rollout_files(tmp_path / "run")[61])
    failed = [r for r in rollouts if r.status is Status.TOOL_FAILED]
    assert 0 < len(failed) < len(rollouts) == 12
    assert first["rollouts_dropped"] == len(failed)
    assert first["status/search_failed"] == pytest.approx(len(failed) / 12)
    assert first["searches/retries"] == 2.0
    assert first["skipped"] == 0.0 and math.isfinite(first["loss"])
    for one in rollouts:
        assert (one.advantage is None) == (one in failed)
    for one in failed:
        assert (one.reward, one.reason) == (0.0, "its search failed")
        [search] = one.tool_calls
        assert search.has_failed and search.failure.endswith("(1) away; (2) away")
    assert (second["rollouts_dropped"], second["searches/retries"]) == (0.0, 0.0)
    evaluations = {e["name"]: e for e in read_metrics(tmp_path / "run" / "eval.jsonl")}
    assert evaluations["after_rl"]["num_search_failed"] == 4
    assert evaluations["after_rl"]["em"] == evaluations["after_rl"]["f1"] == 0.0
    assert evaluations["after_rl"]["n"] == 4
    assert evaluations["empty_index"]["num_search_failed"] == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the search failed: no answer to" in page
    assert "search failed" in page and "Excluded from updates" in page
    assert "with a failed search" in page
    results = evaluate_to(
        tmp_path / "eval",
        model=config.out,
        options=RunOptions(limit=3),
    )
    assert (results["n"], results["num_search_failed"]) == (3, 3)


@pytest.mark.long
def test_a_retriever_that_stays_away_stops_the_run(unsteady, tmp_path):
    unsteady(always, never)
    config = searching_config(tmp_path / "run")
    with pytest.raises(TrainingFailedError, match="if every search failed, check"):
        train(config)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")[60:]
    assert [line["rollouts_dropped"] for line in lines] == [12.0, 12.0]
    assert [line["skipped"] for line in lines] == [1.0, 2.0]
    assert [line["groups_without_signal"] for line in lines] == [1.0, 1.0]


@pytest.mark.long
def test_a_run_whose_policy_is_told(unsteady, tmp_path):
    unsteady(always, never)
    config = searching_config(tmp_path / "run", on_search_failure="observe")
    train(dataclasses.replace(config, steps=1))
    [line] = read_metrics(tmp_path / "run" / "metrics.jsonl")[60:]
    assert line["rollouts_dropped"] == line["status/search_failed"] == 0.0
    assert line["searches/failed"] == 1.0 and line["searches/retries"] > 0.0
    rollouts = read_rollouts(rollout_files(tmp_path / "run")[61])
    assert any(not segment.is_policy for one in rollouts for segment in one.segments)
    assert all(one.advantage is not None for one in rollouts)
    page = write_report(Path(config.out)).read_text()
    assert "the search failed: no answer to" in page


def test_patience_is_no_part_of_what_a_run_is(tmp_path):
    config = tiny_config(tmp_path)
    patient = dataclasses.replace(config.retrieval, attempts=9, timeout_s=1.5)
    assert identity(dataclasses.replace(config, retrieval=patient)) == identity(config)
    telling = dataclasses.replace(config.rollout, on_search_failure="observe")
    other = dataclasses.replace(config, rollout=telling)
    assert identity(other) != identity(config)
    narrow = dataclasses.replace(config.retrieval, num_passages=2)
    assert identity(dataclasses.replace(config, retrieval=narrow)) != identity(config)


def test_patience_is_bounded():
    with pytest.raises(ValueError, match="attempts must be at least 1, got 0"):
        RetrievalConfig(attempts=0)
    for seconds in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="timeout_s must be positive and finite"):
            RetrievalConfig(timeout_s=seconds)
    assert RolloutConfig().on_search_failure == "drop"
