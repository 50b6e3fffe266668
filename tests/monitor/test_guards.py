"""Guards: exclusion from updates, alarms, and the end of a run."""

import dataclasses
import html
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch import json_lines
from jaxsearch.config import RunConfig
from jaxsearch.metrics import summarise, trajectory_metrics
from jaxsearch.monitor.guards import (
    Excluded,
    GuardConfig,
    likely_cause,
    mark_excluded,
)
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.stage_guards import StageGuards
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.report.guards import guards_section
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.run.config_record import identity, resolved
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.overrides import overridden
from jaxsearch.train import TrainingFailedError, train
from jaxsearch.trajectory import Status
from tests.test_dropped_rollouts import (
    estimate,
    gradient,
    kept_rows,
    make_trajectory,
    outcome,
)
from tests.test_train import untimed
from tests.tiny import tiny_config

NOTHING = Excluded({}, [])


# ------------------------------------------------------------- what no update may see


def with_logprob(trajectory, value, *, is_policy=True):
    """A trajectory with the first log-prob of one author replaced."""
    logprobs = trajectory.logprobs.copy()
    logprobs[np.flatnonzero(trajectory.is_policy == is_policy)[0]] = value
    return dataclasses.replace(trajectory, logprobs=logprobs)


def three_groups():
    """Four groups; the second has a NaN log-prob that counts, the others have none."""
    rng = np.random.default_rng(0)
    trajectories = [make_trajectory(rng, i // 4, i % 4) for i in range(12)]
    failed = dataclasses.replace(trajectories[1], status=Status.TOOL_FAILED)
    trajectories[1] = with_logprob(failed, math.inf)
    trajectories[6] = with_logprob(trajectories[6], math.nan)
    trajectories[9] = with_logprob(trajectories[9], math.nan, is_policy=False)
    rewards = [1.0, 0.0, 0.0, 0.3, 1.0, 0.0, 1.0, 0.5, 0.2, 0.0, 0.9, 0.1]
    return trajectories, [outcome(reward) for reward in rewards]


def whitened(rewards, is_kept):
    """Advantages normalised over all groups of the step, as in some algorithms."""
    mean, std = rewards.mean(where=is_kept), rewards.std(where=is_kept)
    return jnp.where(is_kept, (rewards - mean) / std, 0.0)


def rows_of(trajectories, outcomes, estimator=group_relative):
    return kept_rows(trajectories, estimate(trajectories, outcomes, estimator))


@pytest.mark.slow
@pytest.mark.parametrize("advantage", [group_relative, whitened])
def test_an_update_is_as_if_a_group_that_is_not_finite_had_never_been(advantage):
    trajectories, outcomes = three_groups()
    kept, excluded = mark_excluded(trajectories, GuardConfig())
    assert [t.is_excluded for t in kept] == [False] * 4 + [True] * 4 + [False] * 4
    assert excluded.question_ids == ["q1"]
    assert excluded.values == {"groups_non_finite": 1.0}
    rows = rows_of(kept, outcomes, advantage)
    others = [0, 1, 2, 3, 8, 9, 10, 11]
    without = [trajectories[i] for i in others]
    expected = rows_of(without, [outcomes[i] for i in others], advantage)
    assert [r.advantages for r in rows] == [r.advantages for r in expected]
    assert len(rows) == 7
    for got, want in zip(
        jax.tree.leaves(gradient(rows)),
        jax.tree.leaves(gradient(expected)),
        strict=True,
    ):
        assert np.linalg.norm(want) > 0.0
        np.testing.assert_array_equal(got, want)


def test_a_log_prob_under_a_cut_counts_too():
    one, other = three_groups()[0][2:4]
    cut = np.where(np.arange(len(one.tokens)) == 1, -math.inf, one.sampling_logprobs)
    one = dataclasses.replace(one, sampling_logprobs=cut.astype(np.float32))
    assert one.is_policy[1]
    kept, excluded = mark_excluded([one, other], GuardConfig())
    assert not any(t.is_kept for t in kept) and excluded.question_ids == ["q0"]


def test_such_a_group_is_in_the_update_if_that_is_wished():
    trajectories, outcomes = three_groups()
    kept, excluded = mark_excluded(trajectories, GuardConfig(drops_non_finite=False))
    assert not any(t.is_excluded for t in kept) and excluded == NOTHING
    rows = rows_of(kept, outcomes)
    assert any(not np.isfinite(x).all() for x in jax.tree.leaves(gradient(rows)))


def test_rollouts_out_of_length_are_left_out_where_that_is_wished():
    rng = np.random.default_rng(0)
    statuses = [Status.ENDED, Status.OUT_OF_LENGTH, Status.ENDED, Status.TOOL_FAILED]
    trajectories = [make_trajectory(rng, 0, i, s) for i, s in enumerate(statuses)]
    outcomes = [outcome(reward) for reward in (1.0, 0.0, 0.0, 0.0)]
    kept, excluded = mark_excluded(trajectories, GuardConfig())
    assert [t.is_kept for t in kept] == [True, True, True, False]
    assert excluded.values == {"groups_non_finite": 0.0}

    # A log-prob that no update reads does not exclude its group.
    trajectories[1] = with_logprob(trajectories[1], math.nan)
    kept, excluded = mark_excluded(trajectories, GuardConfig(drops_overlong=True))
    assert [t.is_kept for t in kept] == [True, False, True, False]
    assert excluded.values == {"groups_non_finite": 0.0, "rollouts_overlong": 1.0}
    advantages = estimate(kept, outcomes)
    assert advantages[1] is None and advantages[3] is None
    # Rewards 1 and 0: +- 0.5 over a sample std of 0.7071.
    assert advantages[0] == pytest.approx(0.7071, abs=1e-3) == -advantages[2]
    values = summarise(
        trajectory_metrics(
            kept, outcomes, em=[0.0] * 4, f1=[0.0] * 4, thoughts=["x"] * 4
        )
    )
    assert values["rollouts_dropped"] == 2.0
    assert values["reward/group_std"] == 0.5
    assert mark_excluded(trajectories, GuardConfig())[1].question_ids == ["q0"]


# ---------------------------------------------------------------------------- alarms

KEYS = {
    "searches": "searches/mean",
    "answered": "status/answered",
    "think": "len/think",
}
OTHER_KEYS = {
    "reward": "reward/mean",
    "drift": "logprob_drift/mean",
    "signal": "without_advantage",
}


def steps_of(*parts):
    """Concatenates (number of steps, value) pairs."""
    return [value for number, value in parts for _ in range(number)]


def stage_lines(**columns):
    """Lines of metrics without events except in the given columns."""
    length = max(len(column) for column in columns.values())
    still = {"reward/mean": 0.5, "logprob_drift/mean": 1e-6}
    still |= {"searches/mean": 2.0, "status/answered": 0.9, "len/think": 300.0}
    columns = {(KEYS | OTHER_KEYS)[name]: c for name, c in columns.items()}
    return [still | {key: c[i] for key, c in columns.items()} for i in range(length)]


def watched(lines, config=None, cut=0):
    """A stage's lines with what the guards add; resumed after `cut` steps.

    Also the step and name of every notice.
    """
    config = config or GuardConfig()
    written, notices = [], []
    watch = StageGuards(config=config, lines=[])
    for step, line in enumerate(lines, start=1):
        if step == cut + 1:
            # Through JSON, because a resumed run has only what was written.
            read = [json.loads(json_lines.encode(one)) for one in written]
            watch = StageGuards(
                config=config, lines=[json_lines.restored(r) for r in read]
            )
        added = watch.close_step(step, line, NOTHING)
        written.append({"step": step, "stage": "rl", **line, **added})
        notices += [(step, name) for name in watch.notices]
    return written, notices


def on_at(name, written):
    return [line["step"] for line in written if line[f"alarm/{name}"]]


@pytest.mark.parametrize("name", KEYS)
def test_a_signal_that_breaks_down_before_the_reward_raises_an_alarm(name):
    """The median of five steps is low from the third low step on."""
    values = steps_of((30, 0.9), (20, 0.3))
    rewards = steps_of((40, 0.5), (10, 0.1))  # and follows
    written, notices = watched(stage_lines(**{name: values}, reward=rewards))
    assert on_at(name, written) == list(range(33, 51))
    assert notices == [(33, name)]
    others = KEYS.keys() - {name} | {"drift", "signal"}
    assert all(on_at(other, written) == [] for other in others)
    assert {line[f"alarm/{name}"] for line in written} == {0.0, 1.0}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("since", [20, 30])
def test_no_alarm_where_the_reward_fell_first_or_at_once(name, since):
    values = steps_of((30, 0.9), (20, 0.3))
    rewards = steps_of((since, 0.5), (50 - since, 0.1))
    written, notices = watched(stage_lines(**{name: values}, reward=rewards))
    assert on_at(name, written) == [] and notices == []


@pytest.mark.parametrize(
    ("low", "first"),
    [(-1.0, [33]), (-1.4, [33]), (-1.6, [])],
)
def test_a_reward_below_zero_falls_too(low, first):
    """Below the best by half of its size: from -1 to less than -1.5."""
    rewards = steps_of((30, -1.0), (20, low))
    values = steps_of((30, 2.0), (20, 0.1))
    written, _ = watched(stage_lines(searches=values, reward=rewards))
    assert on_at("searches", written)[:1] == first


def test_no_alarm_before_there_is_something_to_compare():
    values = steps_of((5, 2.0), (30, 0.5))
    written, notices = watched(stage_lines(searches=values))
    assert on_at("searches", written) == list(range(20, 36))
    assert notices == [(20, "searches")]
    later, _ = watched(stage_lines(searches=values), GuardConfig(min_steps=30))
    assert on_at("searches", later) == list(range(30, 36))


def test_an_odd_batch_is_no_alarm_and_neither_is_growth():
    noisy = steps_of((30, 2.0), (2, 0.0), (3, 2.0), (2, 0.0), (3, 2.0))
    assert on_at("searches", watched(stage_lines(searches=noisy))[0]) == []
    spike = steps_of((20, 2.0), (1, 30.0), (19, 2.0))
    assert on_at("searches", watched(stage_lines(searches=spike))[0]) == []
    growing = [0.1 * step for step in range(40)]
    assert on_at("searches", watched(stage_lines(searches=growing))[0]) == []
    never = steps_of((40, 0.0))
    assert on_at("searches", watched(stage_lines(searches=never))[0]) == []


def test_an_alarm_ends_when_its_signal_is_back_and_may_begin_again():
    values = steps_of((25, 2.0), (5, 0.5), (10, 2.0), (10, 0.5))
    written, notices = watched(stage_lines(searches=values))
    assert on_at("searches", written) == [*range(28, 33), *range(43, 51)]
    assert notices == [(28, "searches"), (43, "searches")]


def test_drift_is_an_alarm_when_it_stays():
    drift = [1e-6, 0.2, 0.2, 1e-6, 0.2, math.nan, 0.2, 0.2, math.inf, 0.2, 0.05]
    written, notices = watched(stage_lines(drift=drift))
    assert on_at("drift", written) == [9, 10]
    assert notices == [(9, "drift")]
    strict = GuardConfig(max_drift=0.01, drift_steps=1)
    assert on_at("drift", watched(stage_lines(drift=drift), strict)[0]) == [
        *(2, 3, 5, 7, 8, 9, 10, 11)
    ]


def test_an_alarm_that_is_off_is_not_in_the_metrics():
    lines = stage_lines(searches=steps_of((30, 2.0), (10, 0.1)), drift=[9.0] * 40)
    quiet = GuardConfig(
        max_drift=0.0,
        signal_steps=0,
        searches_share=0.0,
        answered_share=0.0,
        think_share=0.0,
    )
    written, notices = watched(lines, quiet)
    assert not any(key.startswith("alarm/") for line in written for key in line)
    assert notices == []


@pytest.mark.parametrize("cut", [1, 2, 19, 20, 32, 33, 34, 41, 42, 49])
def test_alarms_of_a_run_that_resumes_are_those_of_one_that_does_not(cut):
    lines = stage_lines(
        searches=steps_of((30, 2.0), (20, 0.5)),
        reward=steps_of((40, 0.5), (10, 0.1)),
        drift=steps_of((40, 1e-6), (1, math.nan), (9, 0.5)),
    )
    whole, notices = watched(lines)
    assert notices == [(33, "searches"), (44, "drift")]
    resumed, again = watched(lines, cut=cut)
    assert json_lines.encode(resumed) == json_lines.encode(whole)
    assert again == notices


def test_lines_of_an_earlier_version_are_not_compared():
    lines = stage_lines(think=steps_of((30, 300.0), (30, 20.0)))
    for line in lines[:20]:
        del line["len/think"]
    written, _ = watched(lines)
    assert on_at("think", written) == list(range(40, 61))


def test_steps_whose_searches_all_failed_are_no_measure_of_the_reward():
    """A step without rewards does not hide a breakdown or a fall of the reward."""
    values = steps_of((30, 300.0), (30, 20.0))
    for rewards, steps in (
        (steps_of((10, 0.5), (5, math.nan), (45, 0.5)), list(range(33, 61))),
        (steps_of((10, 0.5), (5, math.nan), (15, 0.5), (30, 0.1)), []),
    ):
        written, _ = watched(stage_lines(think=values, reward=rewards))
        assert on_at("think", written) == steps


@pytest.mark.parametrize(
    ("signal", "first"),
    [
        (steps_of((9, 1.0)), [5, 6, 7, 8, 9]),
        (steps_of((3, 0.0), (6, 1.0), (1, 0.0), (6, 1.0)), [8, 9, 15, 16]),
        (steps_of((4, 1.0), (1, 0.0), (4, 1.0)), []),
        (steps_of((4, 1.0), (1, math.nan), (4, 1.0)), []),
    ],
)
def test_steps_without_any_advantage_raise_an_alarm(signal, first):
    written, notices = watched(stage_lines(signal=signal))
    assert on_at("signal", written) == first
    begun = [step for step in first if step - 1 not in first]
    assert notices == [(step, "signal") for step in begun]
    for cut in (2, len(signal) - 2):
        assert watched(stage_lines(signal=signal), cut=cut) == (written, notices)


CAUSES = {
    "none of the task's tags": {"status/answered": 0.0, "searches/mean": 0.0},
    "no rollout ends with an answer": {"status/answered": 0.0, "searches/mean": 1.5},
    "every answer is wrong": {"em": 0.0},
    "every answer is right": {"em": 1.0},
    "the answers to each question earn the same": {"em": 0.25},
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_likely_cause_is_in_the_notice_and_in_the_report(cause):
    lines = stage_lines(signal=[1.0] * 5)
    lines = [line | {"em": 0.5} | CAUSES[cause] for line in lines]
    watch = StageGuards(config=GuardConfig(), lines=[])
    for step, line in enumerate(lines, start=1):
        watch.close_step(step, line, NOTHING)
    notice = watch.notices["signal"]
    assert notice.startswith(
        "alarm signal, step 5: no rollout has an advantage, now for 5 steps (reward 0.5"
        "), so nothing was learned; likely cause: "
    )
    named = [text for text in CAUSES if text in notice]
    assert named == [cause] and notice.endswith("the rollouts of step 5.")
    page = html.unescape(guards_section([{"stage": "rl", **ln} for ln in watch.lines]))
    assert "No alarm was raised" not in page and f"likely cause: {named[0]}" in (
        page.replace("the policy writes none", "none")
    )
    assert "<b>5</b>, in 5 of 5 steps: whole steps" in page


def test_rollouts_that_run_out_of_length_are_named():
    line = {"status/answered": 0.0, "searches/mean": 0.0, "status/out_of_length": 0.75}
    assert "give rollouts more tokens (75% ran out)" in likely_cause(line)
    assert "tokens" not in likely_cause(line | {"status/out_of_length": 0.0})


def test_a_notice_says_what_was_seen_and_what_to_look_at():
    watch = StageGuards(config=GuardConfig(), lines=[])
    for step, line in enumerate(
        stage_lines(
            searches=steps_of((30, 2.0), (3, 0.25)), drift=steps_of((30, 0.0), (3, 0.5))
        ),
        start=101,
    ):
        watch.close_step(step, line, NOTHING)
    assert watch.should_log_rollouts and not watch.failure
    assert watch.notices["searches"].startswith(
        "alarm searches, step 133: searches per question 0.25, at their best 2 "
        "(medians of 5 steps), while the reward holds at 0.5; usual remedies: "
    )
    assert "nats per token 0.5, above 0.1 for 3 steps" in watch.notices["drift"]
    assert all("rollouts of step 133" in text for text in watch.notices.values())
    assert all("\n" not in text for text in watch.notices.values())
    watch.close_step(134, watch.lines[-1], NOTHING)
    assert not watch.should_log_rollouts and watch.lines[-1]["alarm/searches"] == 1.0


# ---------------------------------------------------------------------- what ends a run


def test_groups_that_stay_non_finite_end_a_run():
    [line] = stage_lines(reward=[0.5])
    watch = StageGuards(config=GuardConfig(max_non_finite=3), lines=[])
    for step, num in enumerate([1, 1, 0, 2, 1, 1], start=61):
        ids = [f"q{step}{n}" for n in range(num)]
        watch.close_step(step, line, Excluded({"groups_non_finite": float(num)}, ids))
        assert watch.should_log_rollouts == bool(num)
        assert bool(watch.failure) == (step == 66)
    assert "each of steps 64 to 66 were not finite" in watch.failure
    assert "(questions q640, q641, q650, q660)" in watch.failure
    ids = [f"other{n}" for n in range(20)]
    watch.close_step(67, line, Excluded({"groups_non_finite": 20.0}, ids))
    assert "steps 64 to 67" in watch.failure and "other5 and 14 more)" in watch.failure

    # What was before the run was stopped counts; whose it was is not known any more.
    lines = [json_lines.restored(one) for one in watch.lines[:5]]
    resumed = StageGuards(config=GuardConfig(max_non_finite=2), lines=lines)
    assert "steps 64 to 65 were" in resumed.failure and "(" not in resumed.failure
    resumed = StageGuards(config=GuardConfig(max_non_finite=3), lines=lines)
    resumed.close_step(66, line, Excluded({"groups_non_finite": 1.0}, ["q660"]))
    assert "steps 64 to 66" in resumed.failure and "(questions q660)" in resumed.failure


def test_an_alarm_ends_a_run_where_that_is_wished():
    watch = StageGuards(config=GuardConfig(stop_on_alarm=True), lines=[])
    failures = []
    for step, line in enumerate(stage_lines(drift=steps_of((2, 0.0), (5, 0.5))), 1):
        watch.close_step(step, line, NOTHING)
        failures.append(watch.failure)
    assert [bool(failure) for failure in failures] == [False] * 4 + [True] + [False] * 2
    assert "alarm drift began at step 5" in failures[4]


def test_guards_that_make_no_sense_are_refused():
    for changes, message in (
        ({"max_non_finite": 0}, "guards.max_non_finite must be at least 1, got 0"),
        ({"drift_steps": 0}, "guards.drift_steps must be at least 1"),
        ({"window": 0}, "guards.window must be at least 1"),
        ({"min_steps": 4}, r"guards.min_steps \(4\) must be at least guards.window"),
        ({"signal_steps": -1}, "guards.signal_steps must not be negative"),
        ({"max_drift": -0.1}, "guards.max_drift must be finite and not negative"),
        ({"max_drift": math.inf}, "guards.max_drift must be finite"),
        ({"think_share": 1.0}, r"guards.think_share must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            GuardConfig(**changes)


def test_only_what_decides_an_update_is_a_part_of_what_a_run_is(tmp_path):
    config = tiny_config(tmp_path)

    def of(**changes):
        return identity(dataclasses.replace(config, guards=GuardConfig(**changes)))

    watching = dict(max_drift=0.0, window=2, stop_on_alarm=True, max_non_finite=9)
    assert of(**watching) == of(think_share=0.0) == identity(config)
    assert of(drops_overlong=True) != identity(config)
    assert of(drops_non_finite=False) != identity(config)


def test_a_run_from_before_there_were_guards_can_be_read(tmp_path):
    config = tiny_config(tmp_path)
    record = {**resolved(config), "identity": {}}
    del record["guards"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_run_config(tmp_path) == config
    del record["model"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="written by another version"):
        read_run_config(tmp_path)


def test_guards_are_set_from_the_command_line(tmp_path, capsys):
    config = tiny_config(tmp_path)
    arguments = ["--guards.max-drift", "0", "--guards.drops-overlong", "True"]
    found = overridden(config, arguments, "tiny.py")
    assert found.guards == GuardConfig(max_drift=0.0, drops_overlong=True)
    assert isinstance(found, RunConfig)
    with pytest.raises(SystemExit):
        overridden(config, ["--help"], "tiny.py")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--guards.stop-on-alarm" in shown


# -------------------------------------------------------------------------- whole runs


def guarded_config(out, **guards):
    """Alarms that a policy can raise in a few steps, with few logged rollouts."""
    config = tiny_config(out, guards=GuardConfig(**guards))
    return dataclasses.replace(
        config,
        logging=dataclasses.replace(config.logging, rollouts_every=100),
        eval=dataclasses.replace(config.eval, every=0, limit=2),
    )


@pytest.mark.long
def test_a_run_with_alarms_resumes_as_if_it_had_never_stopped(tmp_path, capsys):
    """Any drift raises an alarm; a run of three steps stops after two."""
    guards = dict(max_drift=1e-12, drift_steps=3, window=1, min_steps=2)
    whole = guarded_config(tmp_path / "whole", **guards)
    train(whole)
    said = capsys.readouterr().out
    lines = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert not any(key.startswith("alarm/") for line in lines[:3] for key in line)
    assert [line["alarm/drift"] for line in lines[3:]] == [0.0, 0.0, 1.0, 1.0]
    for line in lines[3:]:
        assert {f"alarm/{name}" for name in KEYS} <= line.keys()
        assert line["groups_non_finite"] == 0.0 and "rollouts_overlong" not in line
        assert line["len/think"] > 0.0
    assert said.count("alarm drift, step 6: ") == 1
    assert list(rollout_files(tmp_path / "whole")) == [4, 6, 7]
    page = (tmp_path / "whole" / "report.html").read_text()
    assert '<th scope="row">drift</th>' in page

    halved = dataclasses.replace(whole, out=str(tmp_path / "halved"))
    train(dataclasses.replace(halved, steps=2))
    assert "alarm drift" not in capsys.readouterr().out
    train(halved)
    assert capsys.readouterr().out.count("alarm drift, step 6: ") == 1
    assert untimed(read_metrics(tmp_path / "halved" / "metrics.jsonl")) == untimed(
        lines
    )


@pytest.mark.long
def test_a_run_that_learns_nothing_says_so(tmp_path, capsys):
    """An untrained policy never answers. It stays as it is, whatever KL rounds to."""
    config = guarded_config(tmp_path / "run", signal_steps=3)
    *_, search = config.stages
    search = dataclasses.replace(
        search, skips_without_advantage=True, objective=PolicyObjective(kl_weight=0.01)
    )
    train(dataclasses.replace(config, stages=(search,)))
    assert capsys.readouterr().out.count("alarm signal, step 3: ") == 1
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["without_advantage"] for line in lines] == [1.0] * 4
    assert [line["alarm/signal"] for line in lines] == [0.0, 0.0, 1.0, 1.0]
    assert all(line["kl"] < 1e-9 for line in lines)
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<th scope="row">signal</th>' in page and "likely cause: " in page


@pytest.mark.long
def test_a_policy_whose_numbers_overflow_stops_the_run(tmp_path):
    """With weights of 1e30, every log-prob of the sampler is NaN."""
    config = guarded_config(tmp_path / "run", max_non_finite=2)
    read, search = config.stages
    huge = OptimizerConfig(learning_rate=1e30, warmup_steps=0)
    stages = (dataclasses.replace(read, steps=1, optimizer=huge), search)
    with pytest.raises(TrainingFailedError) as failure:
        train(dataclasses.replace(config, stages=stages))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]
    assert [line["groups_non_finite"] for line in lines] == [3.0, 3.0]
    assert [line["rollouts_dropped"] for line in lines] == [12.0, 12.0]
    files = rollout_files(tmp_path / "run")
    assert list(files) == [2, 3]
    rollouts = [one for step in files for one in read_rollouts(files[step])]
    assert all(one.advantage is None for one in rollouts)
    said = re.search(r"each of steps 2 to 3 .*\(questions (.*)\)", str(failure.value))
    ids = dict.fromkeys(one.question_id for one in rollouts)
    assert said and said[1].split(", ") == list(ids)


@pytest.mark.long
def test_a_run_without_its_overlong_rollouts(tmp_path):
    """Untrained rollouts end with a turn's budget, so none is left to learn from."""
    config = guarded_config(tmp_path / "run", drops_overlong=True)
    train(dataclasses.replace(config, steps=1))
    [line] = read_metrics(tmp_path / "run" / "metrics.jsonl")[3:]
    overlong = 12 * line["status/out_of_length"]
    assert line["rollouts_overlong"] == line["rollouts_dropped"] == overlong > 0
    rollouts = read_rollouts(rollout_files(tmp_path / "run")[4])
    for one in rollouts:
        assert (one.advantage is None) == (one.status is Status.OUT_OF_LENGTH)
