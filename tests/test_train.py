"""Whole runs: resumed bit for bit, rejected if they do not match, compiled once."""

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.config import DataConfig, LoggingConfig, RLStage
from jaxsearch.data.dataset import no_dataset
from jaxsearch.env.search import SearchEnvironment
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.json_lines import replace_lines
from jaxsearch.monitor.rollout_log import (
    heldout_rollouts_path,
    read_rollouts,
    rollout_files,
    rollout_path,
)
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.rewards.score import score_file
from jaxsearch.run.build import open_run
from jaxsearch.run.checkpoint import Checkpoints
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.checkpoint_hashes import HASHES
from jaxsearch.run.export import export_run
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.run.policy import read_architecture
from jaxsearch.train import TrainingFailedError, train
from tests.hf_folders import read_here
from tests.tiny import dataset, tiny_config

TIMES = ("time/", "tokens_per_s/")


def untimed(lines: list[dict]) -> list[dict]:
    return [
        {k: v for k, v in line.items() if not k.startswith(TIMES) and k != "seconds"}
        for line in lines
    ]


def final_params(config):
    last = choose_checkpoint(config, "last")
    return jax.tree.map(np.asarray, open_run(config).checkpoint_params(last))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from beginning to end, for tests that only read it."""
    config = tiny_config(tmp_path_factory.mktemp("runs") / "whole")
    return config, train(config)


class LateSearch(SearchEnvironment):
    """Its results arrive after 0 to 30 ms."""

    def step(self, turns):
        time.sleep(random.choice([0, 0, 0.01, 0.03]))
        return super().step(turns)


def late_search(inputs):
    return LateSearch(**vars(inputs.search()))


@pytest.mark.slow
def test_a_run_that_resumes_equals_one_that_never_stopped(whole, tmp_path):
    """Also if its searches take other times, as results are read at fixed steps."""
    config, _ = whole
    assert config.rollout.search_calls == 1
    out = str(tmp_path / "halved")
    halved = dataclasses.replace(config, out=out, environment=late_search)
    train(dataclasses.replace(halved, steps=2))
    train(halved)
    assert untimed(read_metrics(Path(halved.out) / "metrics.jsonl")) == untimed(
        read_metrics(Path(config.out) / "metrics.jsonl")
    )
    jax.tree.map(
        np.testing.assert_array_equal, final_params(halved), final_params(config)
    )


@pytest.mark.slow
def test_a_run_that_was_cut_between_checkpoints_repeats_those_steps(whole, tmp_path):
    config, _ = whole
    cut = dataclasses.replace(config, out=str(tmp_path / "cut"))
    shutil.copytree(config.out, cut.out)
    steps = sorted(int(p.name) for p in (Path(cut.out) / "checkpoints").iterdir())
    shutil.rmtree(Path(cut.out) / "checkpoints" / str(steps[-1]))
    with (Path(cut.out) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "sta')
    train(cut)
    assert untimed(read_metrics(Path(cut.out) / "metrics.jsonl")) == untimed(
        read_metrics(Path(config.out) / "metrics.jsonl")
    )
    jax.tree.map(np.testing.assert_array_equal, final_params(cut), final_params(config))


@pytest.mark.slow
def test_a_run_that_goes_back_shows_nothing_of_the_steps_after(whole, tmp_path):
    config = dataclasses.replace(whole[0], out=str(tmp_path / "back"))
    shutil.copytree(whole[0].out, config.out)
    folder = Path(config.out)
    planted = rollout_path(folder, 7).read_bytes()
    # As if the later steps had been those of other settings.
    for step in (7, 8):
        rollout_path(folder, step).write_bytes(planted[:-1])
    heldout_rollouts_path(folder, "after_rl").write_bytes(planted[:-1])
    before_rl = heldout_rollouts_path(folder, "before_rl").stat().st_mtime_ns
    train(config, rewind_to=6)
    assert set(rollout_files(folder)) == {4, 5, 6, 7}
    assert rollout_path(folder, 7).read_bytes() == planted
    assert len(read_rollouts(heldout_rollouts_path(folder, "after_rl"))) == 6
    assert heldout_rollouts_path(folder, "before_rl").stat().st_mtime_ns == before_rl
    for name in ("metrics.jsonl", "eval.jsonl"):
        lines = [read_metrics(Path(one.out) / name) for one in (config, whole[0])]
        assert untimed(lines[0]) == untimed(lines[1])


@pytest.mark.slow
def test_what_a_run_leaves_behind(whole):
    config, summary = whole
    folder = Path(config.out)
    lines = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert [line["stage"] for line in lines] == ["read"] * 3 + ["search"] * 4
    expected = {
        *("reward/mean", "em", "f1", "searches/mean", "searches/failed"),
        *("searches/retries", "rollouts_dropped", "rollouts_restarted"),
        *("publish_bytes",),
        *("searches/empty", "status/answered", "policy_token_share", "loss", "kl"),
        *("entropy", "clip_fraction", "logprob_drift/mean", "logprob_drift/max"),
        *("grad_norm", "time/rollout", "time/search_wait", "time/update"),
        *("time/publish", "time/checkpoint", "tokens_per_s/policy"),
        *("tokens_per_s/total", "len/policy", "len/total"),
    }
    assert expected <= lines[-1].keys()
    names = [e["name"] for e in read_metrics(folder / "eval.jsonl")]
    assert names == [
        *("before_rl", "heldout", "heldout"),
        *("after_rl", "after_rl_sampled", "empty_index"),
    ]
    assert set(rollout_files(folder)) == {4, 5, 6, 7}
    assert len(read_rollouts(rollout_files(folder)[7])) == 12
    for name in ("before_rl", "after_rl"):
        assert len(read_rollouts(heldout_rollouts_path(folder, name))) == 6
    prompt = json.loads((folder / "prompt.json").read_text())
    assert prompt["question"] in prompt["prompt"] and prompt["form"] == "base"
    assert (folder / "report.html").stat().st_size > 10_000
    wanted = {"em_before_rl", "em", "em_sampled", "em_empty_index", "minutes", "run"}
    assert wanted | {"searches_before_rl", "searches"} <= summary.keys()


@pytest.mark.slow
def test_sampler_and_trainer_agree_in_training(whole):
    lines = read_metrics(Path(whole[0].out) / "metrics.jsonl")
    assert all(line["logprob_drift/max"] < 1e-4 for line in lines[3:])


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_step(tmp_path, caplog):
    """Steps 2 to 4 of RL and their evaluations trace nothing new."""
    config = tiny_config(tmp_path / "run", steps=1)
    train(config)
    train(dataclasses.replace(config, steps=2))
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        train(dataclasses.replace(config, steps=4))
    programs = ("accumulate", "decode", "observe", "prefill", "fork")
    compiled = [
        r.getMessage()
        for r in caplog.records
        if "Compiling" in r.getMessage()
        and any(
            f"jit({name})" in r.getMessage() or f"Compiling {name}" in r.getMessage()
            for name in programs
        )
    ]
    assert not compiled, compiled


@pytest.mark.slow
def test_another_config_is_refused_and_nothing_is_touched(whole):
    config, _ = whole
    before = {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*")}
    with pytest.raises(ValueError, match=r"holds another run: seed is 0 there and 1"):
        train(dataclasses.replace(config, seed=1))
    assert {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*")} == before


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("precious")
    with pytest.raises(ValueError, match="not a run's folder"):
        train(tiny_config(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


def endless_prompts(run_folder, seed):
    tiny = dataset(run_folder, seed)
    long = dataclasses.replace(tiny.questions[0], question="What " * 60)
    return dataclasses.replace(tiny, questions=[long])


def no_questions(run_folder, seed):
    tiny = dataset(run_folder, seed)
    return dataclasses.replace(tiny, questions=[])


def equal_ids(run_folder, seed):
    tiny = dataset(run_folder, seed)
    return dataclasses.replace(tiny, heldout=[tiny.heldout[0]] * 3)


def no_passages(run_folder, seed):
    tiny = dataset(run_folder, seed)
    return dataclasses.replace(tiny, passages=[])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            DataConfig(source=endless_prompts),
            "exceed the budget of 28 tokens: .* has 120",
        ),
        (DataConfig(source=no_dataset), "needs a tokenizer: set --model.tokenizer"),
        (
            DataConfig(source=no_questions),
            "stage 'search' has no questions: .* --data.questions, or .*stages.1",
        ),
        (DataConfig(source=no_passages), "nothing to search: .* --retrieval.corpus"),
        (DataConfig(source=equal_ids), "held-out questions: 3 questions have the id"),
        (
            DataConfig(source=lambda *_: None),
            "functions and objects of a config must be defined in an imp",
        ),
        (
            DataConfig(source=dataset, questions="nowhere.jsonl"),
            "nowhere.jsonl",
        ),
    ],
)
def test_bad_input_leaves_no_folder_behind(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        train(tiny_config(tmp_path / "run", data=data))
    assert not (tmp_path / "run").exists()


def newest_checkpoint(config):
    folders = (Path(config.out) / "checkpoints").iterdir()
    return max(folders, key=lambda path: int(path.name))


@pytest.mark.slow
def test_a_run_with_a_cut_checkpoint_repeats_its_steps(whole, tmp_path, capsys):
    config = dataclasses.replace(whole[0], out=str(tmp_path / "cut"))
    shutil.copytree(whole[0].out, config.out)
    newest = newest_checkpoint(config)
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    train(config)
    assert f"checkpoints: damaged: step {newest.name} (" in capsys.readouterr().out
    assert untimed(read_metrics(Path(config.out) / "metrics.jsonl")) == untimed(
        read_metrics(Path(whole[0].out) / "metrics.jsonl")
    )
    assert choose_checkpoint(config, "last").folder == newest


@pytest.mark.slow
def test_checkpoints_of_which_none_is_left_are_named(whole, tmp_path):
    config = dataclasses.replace(whole[0], out=str(tmp_path / "emptied"))
    shutil.copytree(whole[0].out, config.out)
    for folder in (Path(config.out) / "checkpoints").iterdir():
        (folder / "_CHECKPOINT_METADATA").unlink()
    before = (Path(config.out) / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="none of the checkpoints can be read: step 7"):
        train(config)
    assert (Path(config.out) / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_checkpoint_with_other_bytes_is_named(whole, tmp_path):
    """Without its hashes, only reading the arrays finds it."""
    config = dataclasses.replace(whole[0], out=str(tmp_path / "changed"))
    shutil.copytree(whole[0].out, config.out)
    newest = newest_checkpoint(config)
    (newest / HASHES).unlink()
    [file] = newest.glob("state/ocdbt.process_0/d/*")
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(ValueError, match=f"checkpoint .*{newest.name} cannot be read"):
        train(config)


@pytest.mark.slow
def test_gradients_that_stay_non_finite_stop_the_run(tmp_path):
    config = tiny_config(tmp_path / "run")
    read, search = config.stages
    broken = dataclasses.replace(
        search, advantage=huge_advantages, max_skipped=2, steps=2
    )
    config = dataclasses.replace(config, stages=(read, broken))
    failure = "steps 4 to 5 were not finite"
    with pytest.raises(TrainingFailedError, match=failure):
        train(config)
    # All its steps are saved, but it is not complete.
    with pytest.raises(TrainingFailedError, match=f"{failure}.* last step of its stag"):
        train(config)
    names = [line["name"] for line in read_metrics(tmp_path / "run" / "eval.jsonl")]
    assert "after_rl" not in names
    accepted = dataclasses.replace(broken, max_skipped=3)
    train(dataclasses.replace(config, stages=(read, accepted)))
    names = [line["name"] for line in read_metrics(tmp_path / "run" / "eval.jsonl")]
    assert "after_rl" in names


def huge_advantages(rewards, is_kept):
    return rewards * 0 + np.finfo(np.float32).max


@pytest.mark.slow
def test_evaluation_and_export_of_a_run(whole, tmp_path):
    config, summary = whole
    results = evaluate_to(
        tmp_path / "eval",
        model=config.out,
        options=RunOptions(limit=6),
    )
    assert results["em"] == summary["em"] and results["n"] == 6
    lines = (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 6 and "segments" in json.loads(lines[0])
    judged = score_file(tmp_path / "eval" / "predictions.jsonl", "quickstart")
    for name in ("n", "em", "f1", "cover_em", "mean_reward"):
        assert judged[name] == pytest.approx(results[name]), name
    exported = export_run(Path(config.out), tmp_path / "hf", dtype="float32")
    assert "model.safetensors" in exported["files"]
    run, params = load_run(config.out)
    assert read_architecture(str(tmp_path / "hf")) == dataclasses.replace(
        run.transformer.architecture, max_positions=config.rollout.max_len
    )
    again = read_here(tmp_path / "hf", run.transformer)
    again = run.transformer.for_rollouts(jax.tree.map(jnp.asarray, again))
    jax.tree.map(np.testing.assert_array_equal, again, jax.tree.map(np.asarray, params))
    with pytest.raises(ValueError, match="is not empty"):
        export_run(Path(config.out), tmp_path / "hf", dtype="float32")


@pytest.mark.slow
def test_an_evaluation_goes_on_where_it_was_stopped(whole, tmp_path):
    """Half of the lines are lost, and one is cut: the rest is rolled out again.

    Other rollouts then share the slots, greedily and with samples.
    """
    config, _ = whole
    files = []
    for name, questions in (("a", dataset(None, 0).heldout[:12]), ("b", None)):
        questions = questions or dataset(None, 0).questions[:14]
        files.append(f"{name}={tmp_path / name}.jsonl")
        replace_lines(
            tmp_path / f"{name}.jsonl", (dataclasses.asdict(q) for q in questions)
        )
    for change in ({"num_samples": 3}, {}):
        out = tmp_path / f"out{len(change)}"
        settings = {
            "options": RunOptions(questions=tuple(files), max_searches=1),
            "sample": 10,
            "answers": AnswerOptions(**change),
        }
        results = evaluate_to(out, model=config.out, **settings)
        assert (results["n"], set(results["sets"])) == (20, {"a", "b"})
        assert results["searches_per_question"] <= 1.0
        chosen = [(one["of"], one["sample_seed"]) for one in results["sets"].values()]
        assert chosen == [(12, 0), (14, 0)]
        path = out / "predictions.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[1::2]) + lines[0][:60])
        assert evaluate_to(out, model=config.out, **settings) == results
        assert path.read_bytes().splitlines(keepends=True) == lines
    with pytest.raises(ValueError, match="of a .10 of 12 questions.* there and of a"):
        evaluate_to(out, model=config.out, **{**settings, "seed": 1})
    with pytest.raises(ValueError, match="samples is 1 there and 2 here"):
        sampled = AnswerOptions(num_samples=2, temperature=0.5)
        evaluate_to(out, model=config.out, **{**settings, "answers": sampled})
    with pytest.raises(ValueError, match="checkpoint step 7.* there and .*step 5"):
        evaluate_to(out, model=config.out, checkpoint="5", **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 1}, "--limit takes the first questions and --sample"),
        ({"questions": ("x.jsonl", "x.jsonl")}, "two sets of questions have the name"),
    ],
)
def test_impossible_evaluations_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_to(
            tmp_path / "out",
            model=str(tmp_path / "nowhere"),
            options=RunOptions(**change),
            sample=1,
        )


def test_one_text_is_no_tuple_of_files():
    options = RunOptions()
    # Not through __init__, whose types are checked in tests alone.
    vars(options)["questions"] = "x.jsonl"
    with pytest.raises(ValueError, match="a tuple of files, such as .'x.jsonl',."):
        options.__post_init__()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 2, "temperature": 0.0}, "--samples 2 at --temperature 0"),
        ({"num_samples": 0}, "--samples must be at least 1"),
        ({"temperature": float("nan")}, "--temperature must be finite and not neg"),
        ({"temperature": float("inf")}, "--temperature must be finite and not neg"),
        ({"temperature": -1.0}, "--temperature must be finite and not neg"),
        ({"allowed_failures": -1}, "--allow-failures must not be negative"),
    ],
)
def test_impossible_answers_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AnswerOptions(**change)


@pytest.mark.slow
def test_an_evaluation_goes_on_without_bad_rows_and_long_prompts(whole, tmp_path):
    question = dataset(None, 0).questions[0].question
    path = tmp_path / "q.jsonl"
    lines = [
        {"id": id_, "question": text, "golden_answers": ["Ann"]}
        for id_, text in (("bad", " "), ("long", "What " * 60), ("good", question))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions = (str(path),)
    with pytest.raises(ValueError, match="q.jsonl:1: .*[(]--skip-bad-rows in .*eval"):
        load_run(whole[0].out, RunOptions(questions=questions))
    long = (
        "'long' has 120; give a shorter .* --prompt-template, or drop .* `eval --drop"
    )
    with pytest.raises(ValueError, match=f"{long}-long-prompts`$"):
        load_run(whole[0].out, RunOptions(questions=questions, skip_bad_rows=True))
    path.write_text(json.dumps(lines[1]))
    with pytest.raises(ValueError, match="is left; give .* with --prompt-template$"):
        load_run(whole[0].out, RunOptions(questions=questions, drop_long_prompts=True))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    good = RunOptions(questions=questions, skip_bad_rows=True, drop_long_prompts=True)
    run, _ = load_run(whole[0].out, good)
    assert [question.id for question in run.inputs.heldout] == ["good"]


@pytest.mark.slow
def test_a_run_is_of_use_where_it_could_not_be_trained(whole, tmp_path):
    folder = shutil.copytree(whole[0].out, tmp_path / "from_a_tpu")
    record = json.loads((folder / "config.json").read_text())
    record["model"]["attention"] = "splash"
    (folder / "config.json").write_text(json.dumps(record))
    _, params = load_run(str(folder))
    assert jax.tree.all(jax.tree.map(lambda x: jnp.isfinite(x).all(), params))
    export_run(folder, tmp_path / "hf", dtype="float32")


@pytest.mark.long
def test_the_control_trains_on_retrieved_tokens(tmp_path):
    config = tiny_config(tmp_path / "run", steps=1)
    read, search = config.stages
    unmasked = dataclasses.replace(search, has_masked_observations=False)
    train(dataclasses.replace(config, stages=(read, unmasked)))
    [line] = read_metrics(tmp_path / "run" / "metrics.jsonl")[3:]
    # Old log-probs are the trainer's there, so every ratio is one.
    assert line["logprob_drift/max"] < 1e-5


@pytest.mark.long
def test_a_killed_process_resumes(tmp_path):
    """A real process, killed in the middle of RL, started again."""
    program = (
        "from pathlib import Path; from tests.tiny import dataset, tiny_config;"
        "from jaxsearch.train import train;"
        f"print(train(tiny_config(Path({str(tmp_path / 'run')!r})))['em'])"
    )
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 5:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.05)
    process.wait()
    done = subprocess.run(command, cwd=root, check=True, capture_output=True)
    assert done.returncode == 0
    lines = read_metrics(metrics)
    assert [line["step"] for line in lines] == list(range(1, 8))


@pytest.mark.slow
def test_checkpoints_survive_donation(tmp_path):
    """The saved state is that of its step, although the next update donates it."""
    no_rollouts = LoggingConfig(wandb="disabled", rollouts_every=0)
    config = tiny_config(tmp_path / "run", steps=1, logging=no_rollouts)
    train(config)
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    assert checkpoints.latest().step == 4
    checkpoints.close()
    assert not rollout_files(tmp_path / "run")
    assert isinstance(config.stages[1], RLStage)
