"""The best checkpoint is kept, survives an interruption, and is what others load.

The run's held-out exact match follows a script: question i is right in an evaluation
if i is below the evaluation's number in the script.
"""

import collections
import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.config import CheckpointConfig, DataConfig, EvalConfig
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.rewards import tasks
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.run.best_checkpoint import BestCheckpoints
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.export import export_run
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.train import train
from tests.tiny import dataset, tiny_config

NUM_QUESTIONS = 6
# Right answers of 6 before RL, after its steps 2, 4, ... 12, and after RL three times.
SCRIPT = (1, 2, 3, 5, 1, 4, 4, 4, 0, 0)
REPEATED = (0, 1, 2, 2, 2, 0, 0)

script: tuple[int, ...] = SCRIPT
num_judged: collections.Counter[str] = collections.Counter()


def scripted_reward(segments, golden_answers, *, has_ended, protocol):
    prediction = None
    if golden_answers[0].isdecimal():
        evaluation = num_judged[golden_answers[0]]
        num_judged[golden_answers[0]] += 1
        is_right = int(golden_answers[0]) < script[evaluation]
        prediction = golden_answers[0] if is_right else "no"
    return Outcome(reward=0.0, terms={}, reason="scripted", prediction=prediction)


SCRIPTED = dataclasses.replace(
    tasks.QUICKSTART, name="scripted", reward=scripted_reward
)


def numbered_heldout(run_folder, seed):
    whole = dataset(run_folder, seed)
    heldout = [
        dataclasses.replace(question, golden_answers=(str(i),))
        for i, question in enumerate(whole.heldout[:NUM_QUESTIONS])
    ]
    return dataclasses.replace(whole, heldout=heldout)


def follow(numbers):
    global script
    script = numbers
    num_judged.clear()


def saved(run, folder="best"):
    return sorted(int(path.name) for path in (Path(run) / folder).iterdir())


def evaluations(run):
    return [(e["name"], e["step"]) for e in read_metrics(Path(run) / "eval.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three supervised and twelve RL steps: checkpoints at 7, 11 and 15, best at 9."""
    config = tiny_config(
        tmp_path_factory.mktemp("runs") / "whole",
        data=DataConfig(source=numbered_heldout),
        eval=EvalConfig(every=2),
        checkpoint=CheckpointConfig(every=4, keep=3),
    )
    read, search = config.stages
    search = dataclasses.replace(search, task=SCRIPTED, steps=12)
    config = dataclasses.replace(config, stages=(read, search))
    follow(SCRIPT)
    return config, train(config)


@pytest.mark.slow
def test_the_best_so_far_is_kept_with_that_of_each_checkpoint(whole):
    config, summary = whole
    assert summary["em"] == pytest.approx(4 / 6)  # of the last policy, not the best
    assert saved(config.out, "checkpoints") == [7, 11, 15]
    assert saved(config.out) == [7, 9]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "step", "said"),
    [
        ("", 9, "step 9 of 15, held-out EM 0.833, the best of 6; the last one (step"),
        ("best", 9, "step 9 of 15, held-out EM 0.833, the best of 6; the last one"),
        ("last", 15, "step 15 of 15, held-out EM 0.667; the best (step 9) has 0.833"),
        ("11", 11, "step 11 of 15, held-out EM 0.167; the best (step 9) has 0.833; "),
    ],
)
def test_an_argument_chooses_and_the_choice_is_described(whole, which, step, said):
    choice = choose_checkpoint(whole[0], which)
    assert choice.step == step
    assert choice.description.startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("12", r"no checkpoint of step 12; --checkpoint can be 7, 9 \(best\), 11, 15"),
        ("newest", "--checkpoint must be best, last or a step; got newest"),
    ],
)
def test_a_checkpoint_that_does_not_exist_is_refused(whole, which, message):
    with pytest.raises(ValueError, match=message):
        choose_checkpoint(whole[0], which)


@pytest.mark.slow
def test_loading_evaluation_and_export_use_the_best(whole, tmp_path, capsys):
    config, _ = whole
    params = {which: load_run(config.out, checkpoint=which)[1] for which in ("", "15")}
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{config.out}: step 9 of 15, held-out EM 0.833, the ")
    assert said[1].startswith(f"{config.out}: step 15 of 15")
    best, last = (jax.tree.leaves(params[which]) for which in ("", "15"))
    assert any(not np.array_equal(a, b) for a, b in zip(best, last, strict=True))
    follow((6,))
    exported = export_run(Path(config.out), tmp_path / "hf", dtype="float32")
    assert exported["checkpoint"].startswith("step 9 of 15")
    results = evaluate_to(
        tmp_path / "eval", model=config.out, options=RunOptions(limit=1)
    )
    assert results["checkpoint"] == exported["checkpoint"]
    _, again = load_run(str(tmp_path / "hf"), RunOptions(task="quickstart"))
    same = jax.tree.leaves(again)
    assert all(np.array_equal(a, b) for a, b in zip(best, same, strict=True))
    with pytest.raises(ValueError, match="--checkpoint best is for a run's folder"):
        evaluate_to(tmp_path / "e", model=str(tmp_path / "hf"), checkpoint="best")


@pytest.mark.slow
def test_a_run_that_repeats_steps_forgets_their_best(whole, tmp_path):
    """Killed after step 9, resumed from 7: the best is step 7 again, not 9."""
    config = dataclasses.replace(whole[0], out=str(tmp_path / "cut"))
    shutil.copytree(whole[0].out, config.out)
    for step in (11, 15):
        shutil.rmtree(Path(config.out) / "checkpoints" / str(step))
    follow(REPEATED)
    train(config)
    assert saved(config.out) == [7]
    said = choose_checkpoint(config).description
    assert said.startswith("step 7 of 15, held-out EM 0.500, the best of 6; the last")


@pytest.mark.slow
def test_a_run_killed_during_an_evaluation_repeats_it(whole, tmp_path):
    config = dataclasses.replace(whole[0], out=str(tmp_path / "killed"))
    shutil.copytree(whole[0].out, config.out)
    path = Path(config.out) / "eval.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-4]))
    follow((6, 6, 6, 6))
    train(config)
    assert evaluations(config.out) == evaluations(whole[0].out)
    assert saved(config.out) == [7, 9, 15]


@pytest.mark.slow
def test_of_equal_ones_the_latest_is_the_best(tmp_path):
    config = tiny_config(tmp_path / "run", steps=2, eval=EvalConfig(every=1, limit=1))
    train(config)
    ranked = read_metrics(tmp_path / "run" / "eval.jsonl")
    assert [e["em"] for e in ranked] == [0.0] * len(ranked)
    assert choose_checkpoint(config).description == (
        "step 5 of 5, held-out EM 0.000, the best of 2"
    )


@pytest.mark.slow
def test_a_run_without_a_best_gives_its_last(whole, tmp_path):
    """Runs of earlier versions have no folder `best`."""
    config = dataclasses.replace(whole[0], out=str(tmp_path / "old"))
    shutil.copytree(whole[0].out, config.out)
    shutil.rmtree(Path(config.out) / "best")
    assert choose_checkpoint(config).step == 15
    with pytest.raises(ValueError, match="has no best checkpoint: it was not evaluat"):
        choose_checkpoint(config, "best")


def test_what_is_deleted_and_what_is_not(tmp_path):
    resumable: list[int] = []

    def opened(after):
        return BestCheckpoints(tmp_path, after=after, resumable=lambda: resumable)

    best = opened(after=0)
    for step, kept in ((2, [2]), (4, [4]), (4, [4]), (6, [4, 6]), (9, [4, 6, 9])):
        if step == 6:
            resumable.append(5)
        if step == 9:
            resumable.append(8)
        best.save(step, {"w": jnp.full(3, step, jnp.float32)})
        assert saved(tmp_path) == kept
    best.close()
    opened(after=8).close()
    assert saved(tmp_path) == [4, 6]
    resumable[:] = [8]
    best = opened(after=8)
    best.save(10, {"w": jnp.zeros(3)})
    best.close()
    assert saved(tmp_path) == [6, 10]
