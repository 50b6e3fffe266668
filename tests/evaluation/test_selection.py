"""`jaxsearch select`, with a policy that has partly memorised a few questions."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.dataset import Dataset
from jaxsearch.data.formats import read_questions
from jaxsearch.data.selection import Bounds
from jaxsearch.evaluation.selection import select_to
from jaxsearch.evaluation.tries import Criterion, SelectionFailedError, _failure
from jaxsearch.run.export import export_run
from jaxsearch.train import train
from jaxsearch.trajectory import Status, ToolCall
from tests import tiny
from tests.evaluation.scripted_evaluation import SETS, trajectory
from tests.test_several_processes import succeeded

ROOT = Path(__file__).resolve().parents[2]
TRIES = 6
NUM_QUESTIONS = 10
EM = Criterion(right="em")


def learned(seed):
    """Demonstrations of a few one-hop questions."""
    return tiny.reading_demonstrations(seed)[:NUM_QUESTIONS]


def dataset(run_folder, seed):
    """The questions of these demonstrations, and their passages."""
    demonstrations = learned(seed)
    passages = {
        p.id: p for d in demonstrations for found in d.observations for p in found
    }
    return Dataset(
        questions=[demonstration.question for demonstration in demonstrations],
        passages=list(passages.values()),
        tokenizer=tiny.dataset(run_folder, seed).tokenizer,
    )


def no_questions(run_folder, seed):
    return dataclasses.replace(dataset(run_folder, seed), questions=[])


def other_environment(inputs):
    return inputs.search()


def small_config(out, **rl):
    """Imitation of the demonstrations, followed by practically no RL."""
    config = tiny.tiny_config(Path(out))
    read, search = config.stages
    read = dataclasses.replace(
        read,
        demonstrations=learned,
        steps=23,
        batch_size=NUM_QUESTIONS,
        max_tokens=2048,
        optimizer=dataclasses.replace(read.optimizer, learning_rate=1e-2),
    )
    search = dataclasses.replace(search, steps=1, **rl)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source=dataset),
        stages=(read, search),
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    config = small_config(tmp_path_factory.mktemp("policies") / "policy")
    train(config)
    return config.out


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    """A selection from beginning to end, for tests that only read it."""
    out = tmp_path_factory.mktemp("selections") / "whole"
    counted = selected(policy, out)
    return out, counted


def selected(policy, out, *, bounds=None, config=None, **options):
    return select_to(
        out,
        config or small_config(out),
        model=policy,
        bounds=bounds or Bounds(tries=TRIES),
        criterion=EM,
        **options,
    )


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def outcome(folder):
    """The output files of a selection, as bytes."""
    names = ("tries.jsonl", "selected.jsonl", "counts.json", "calls.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.slow
def test_questions_differ_in_difficulty(whole):
    """Otherwise the other tests would have no effect."""
    out, counted = whole
    taken = counted["tries_until_right"]
    assert counted["n"] == NUM_QUESTIONS and sum(taken.values()) == NUM_QUESTIONS
    assert 0 < taken["1"] < NUM_QUESTIONS
    assert sum(taken[str(n)] for n in range(2, TRIES + 1)) > 0
    assert len(lines(out / "calls.jsonl")) > 2


@pytest.mark.slow
def test_a_question_is_not_tried_again_once_it_is_right(whole):
    out, _ = whole
    for line in lines(out / "tries.jsonl"):
        assert len(line["searches"]) == (line["tries_until_right"] or TRIES)
    assert [line["id"] for line in lines(out / "tries.jsonl")] == [
        demonstration.question.id for demonstration in learned(0)
    ]


@pytest.mark.slow
def test_what_is_kept_is_what_the_counts_say(whole, policy, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "again")
    rolled_out = (out / "calls.jsonl").read_bytes()
    counted = selected(
        policy, out, bounds=Bounds(tries=TRIES, min_tries=2, max_tries=4)
    )
    # Selected again from the same tries, without new ones.
    assert (out / "calls.jsonl").read_bytes() == rolled_out
    taken = {
        line["id"]: line["tries_until_right"] for line in lines(out / "tries.jsonl")
    }
    wanted = [i for i, n in taken.items() if n is not None and 2 <= n <= 4]
    kept = read_questions(out / "selected.jsonl")
    assert [question.id for question in kept] == wanted
    assert counted["kept"] == len(wanted)
    assert counted["kept"] == sum(
        counted["tries_until_right"][str(n)] for n in (2, 3, 4)
    )
    record = json.loads((out / "counts.json").read_text())
    assert record["kept"] == len(wanted)
    assert record["settings"]["tries"] == TRIES and record["bounds"]["max_tries"] == 4
    originals = {d.question.id: d.question for d in learned(0)}
    for question in kept:
        original = originals[question.id]
        added = {"tries_until_right": taken[question.id]}
        assert question.metadata == json.loads(json.dumps(original.metadata)) | added
        assert question.golden_answers == original.golden_answers


@pytest.mark.slow
def test_a_selection_that_was_cut_goes_on_to_the_same_files(whole, policy, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "cut")
    wanted = outcome(out)
    for name in ("tries.jsonl", "selected.jsonl", "counts.json"):
        (out / name).unlink()
    calls = (out / "calls.jsonl").read_text().splitlines(keepends=True)
    half = calls[2][: len(calls[2]) // 2]
    (out / "calls.jsonl").write_text("".join([*calls[:2], half]))
    selected(policy, out)
    assert outcome(out) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("questions_per_step", "group_size", "num_slots"),
    [(1, 2, 8), (30, 4, 5)],
)
def test_tries_do_not_depend_on_their_calls(
    whole, policy, tmp_path, questions_per_step, group_size, num_slots
):
    out = tmp_path / "other"
    config = small_config(
        out, questions_per_step=questions_per_step, group_size=group_size
    )
    rollout = dataclasses.replace(config.rollout, num_slots=num_slots)
    selected(policy, out, config=dataclasses.replace(config, rollout=rollout))
    wanted, found = outcome(whole[0]), outcome(out)
    assert found["tries.jsonl"] == wanted["tries.jsonl"]
    assert found["selected.jsonl"] == wanted["selected.jsonl"]
    assert found["calls.jsonl"] != wanted["calls.jsonl"]


@pytest.mark.slow
def test_a_hugging_face_folder_serves_as_a_run_does(whole, policy, tmp_path):
    export_run(Path(policy), tmp_path / "hf", dtype="float32")
    selected(str(tmp_path / "hf"), tmp_path / "out")
    assert outcome(tmp_path / "out")["tries.jsonl"] == outcome(whole[0])["tries.jsonl"]


@pytest.mark.slow
def test_other_settings_are_refused_and_nothing_is_touched(whole, policy):
    out, _ = whole
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises(ValueError, match="another selection: tries is 6 there and 7"):
        selected(policy, out, bounds=Bounds(tries=7))
    with pytest.raises(ValueError, match="questions.n is 10 there and 4 here"):
        selected(policy, out, limit=4)
    config = dataclasses.replace(small_config(out), environment=other_environment)
    with pytest.raises(ValueError, match="another selection: environment is .*only"):
        selected(policy, out, config=config)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


@pytest.mark.slow
def test_a_selection_without_an_environment_is_one_of_search(whole, policy, tmp_path):
    """Earlier versions did not record it."""
    out = tmp_path / "old"
    shutil.copytree(whole[0], out)
    settings = json.loads((out / "settings.json").read_text())
    del settings["environment"]
    (out / "settings.json").write_text(json.dumps(settings))
    assert selected(policy, out)["kept"] == whole[1]["kept"]
    config = dataclasses.replace(small_config(out), environment=other_environment)
    with pytest.raises(ValueError, match="another selection: environment is"):
        selected(policy, out, config=config)


@pytest.mark.slow
def test_another_policy_of_the_same_name_is_refused(whole, policy, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "of_another")
    record = json.loads((out / "settings.json").read_text())
    record["policy"] = "0123456789abcdef"
    (out / "settings.json").write_text(json.dumps(record))
    differs = "policy is '0123456789abcdef' there and '[0-9a-f]{16}' here"
    with pytest.raises(ValueError, match=differs):
        selected(policy, out)


@pytest.mark.slow
def test_calls_that_were_changed_are_refused(whole, policy, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "changed")
    first, second, *rest = (out / "calls.jsonl").read_text().splitlines(keepends=True)
    (out / "calls.jsonl").write_text("".join([second, first, *rest]))
    with pytest.raises(ValueError, match="line 1: the tries do not match"):
        selected(policy, out)


@pytest.mark.slow
def test_a_search_that_fails_is_no_try(whole, policy, tmp_path):
    """After a timeout of the retriever, a second run leaves no trace of the failure."""
    out = tmp_path / "out"
    config = small_config(out)
    hasty = dataclasses.replace(config.retrieval, attempts=1, timeout_s=1e-6)
    with pytest.raises(SelectionFailedError, match="a search failed"):
        selected(policy, out, config=dataclasses.replace(config, retrieval=hasty))
    assert not (out / "calls.jsonl").exists() and not (out / "tries.jsonl").exists()
    selected(policy, out)
    assert outcome(out) == outcome(whole[0])


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        ((), "a tool failed (its environment names no call"),
        ((ToolCall(tool="sum", query="1", failure="late"),), "tool 'sum' failed (late"),
        ((ToolCall(query="x", failure="down"),), "a search failed (down; fix the retr"),
    ],
)
def test_the_tool_that_failed_is_named(calls, line):
    failed = dataclasses.replace(
        trajectory(0, SETS[0].questions[0], 0),
        status=Status.TOOL_FAILED,
        tool_calls=calls,
    )
    assert line in _failure(failed)


@pytest.mark.slow
def test_bounds_that_keep_nothing_are_said_to(policy, tmp_path):
    out = tmp_path / "one"
    selected(policy, out, limit=1)
    [line] = lines(out / "tries.jsonl")
    other = 2 if line["tries_until_right"] == 1 else 1
    bounds = Bounds(tries=TRIES, min_tries=other, max_tries=other)
    with pytest.raises(SelectionFailedError, match="no question is within these"):
        selected(policy, out, bounds=bounds, limit=1)
    assert (out / "selected.jsonl").read_text() == ""
    assert json.loads((out / "counts.json").read_text())["kept"] == 0


@pytest.mark.slow
def test_a_folder_that_is_no_selection_is_refused(policy, tmp_path):
    (tmp_path / "letters.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds no selection"):
        selected(policy, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.slow
def test_a_config_without_questions_is_refused(policy, tmp_path):
    config = small_config(tmp_path / "out")
    data = dataclasses.replace(config.data, questions="nowhere.jsonl")
    with pytest.raises(ValueError, match="nowhere.jsonl"):
        selected(
            policy, tmp_path / "out", config=dataclasses.replace(config, data=data)
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_unknown_encoder_leaves_no_folder(policy, tmp_path):
    config = small_config(tmp_path / "unused")
    retrieval = dataclasses.replace(config.retrieval, encoder="tfdif")
    config = dataclasses.replace(config, retrieval=retrieval)
    with pytest.raises(ValueError, match="unknown encoder 'tfdif'"):
        selected(policy, tmp_path / "new", config=config)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_tokenizer_of_other_material_is_refused(policy, tmp_path):
    config = dataclasses.replace(small_config(tmp_path / "out"), seed=1)
    with pytest.raises(ValueError, match="dataset of seed 0.*dataset of seed 1"):
        selected(policy, tmp_path / "out", config=config)


CONFIG = """
from tests.evaluation.test_selection import small_config

config = small_config("unnamed")
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return str(path)


def refused(capsys, *words):
    """The single line of a command's error."""
    assert main(words) == 2
    captured = capsys.readouterr()
    [line] = captured.err.strip().splitlines()
    assert "Traceback" not in line
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tries", "0"), "--tries must be at least 1, got 0"),
        (("--tries", "3", "--min-tries", "3", "--max-tries", "2"), "keeps no question"),
        (("--tries", "3", "--limit", "-1"), "--limit must not be negative"),
        (("--tries", "3", "--right", "bleu"), "one of"),
        (("--tries", "3", "--at-least", "0"), "--at-least must be in"),
        (("--tries", "3", "--data.questions", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_bad_input_is_one_line(capsys, config_file, policy, tmp_path, words, message):
    out = str(tmp_path / "out")
    command = ("select", config_file, "--model", policy, "--out", out, *words)
    assert message in refused(capsys, *command)
    assert not Path(out).exists()


def test_a_model_that_is_missing_is_one_line(capsys, config_file, tmp_path):
    out = str(tmp_path / "out")
    words = ("--model", "./nowhere", "--tries", "2", "--out", out)
    assert "nowhere does not exist" in refused(capsys, "select", config_file, *words)
    (tmp_path / "empty").mkdir()
    words = ("--model", str(tmp_path / "empty"), *words[2:])
    assert "neither a run's folder" in refused(capsys, "select", config_file, *words)
    assert not Path(out).exists()


@pytest.mark.slow
def test_overrides_of_the_config_are_taken(capsys, config_file, policy, tmp_path):
    chosen = tmp_path / "questions.jsonl"
    question = learned(0)[3].question
    chosen.write_text(json.dumps(dataclasses.asdict(question)) + "\n")
    out = tmp_path / "out"
    options = ("--tries", "2", "--out", str(out), "--stages.1.temperature", "0.5")
    words = ("--model", policy, "--data.questions", str(chosen), "--json", *options)
    assert main(("select", config_file, *words)) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["n"] == 1 and found["kept"] == 1
    settings = json.loads((out / "counts.json").read_text())["settings"]
    assert settings["temperature"] == 0.5 and settings["right"] == "cover_em"


@pytest.mark.long
def test_a_killed_process_goes_on_to_the_same_files(
    whole, config_file, policy, tmp_path
):
    """A real process is killed between two calls and started again."""
    out = tmp_path / "killed"
    words = (
        "--model",
        policy,
        "--tries",
        str(TRIES),
        "--right",
        "em",
        "--out",
        str(out),
    )
    command = [
        sys.executable,
        "-m",
        "jaxsearch",
        "select",
        config_file,
        *words,
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    calls = out / "calls.jsonl"
    while process.poll() is None:
        if calls.exists() and calls.read_bytes().count(b"\n") >= 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    assert not (out / "counts.json").exists()
    done = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert outcome(out) == outcome(whole[0])


@pytest.mark.long
def test_tries_do_not_depend_on_processes(whole, config_file, policy, tmp_path):
    out = tmp_path / "two"
    words = ("--model", policy, "--tries", TRIES, "--right", "em", "--out", out)
    command = ("-m", "jaxsearch", "select", config_file, *words)
    succeeded(*command, count=2, num_devices=2)
    wanted, found = outcome(whole[0]), outcome(out)
    assert found == wanted


@pytest.mark.slow
def test_calls_of_earlier_versions_are_read(whole, policy, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "earlier")
    calls = (out / "calls.jsonl").read_text()
    (out / "calls.jsonl").write_text(calls.replace('"prompt_index"', '"position"'))
    for name in ("tries.jsonl", "selected.jsonl", "counts.json"):
        (out / name).unlink()
    selected(policy, out)
    assert (out / "tries.jsonl").read_bytes() == (whole[0] / "tries.jsonl").read_bytes()
