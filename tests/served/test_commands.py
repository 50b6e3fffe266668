"""`eval`, `ask` and `select` with the packaged policy behind a model server."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import ModelConfig
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.question_sets import QuestionSet
from jaxsearch.evaluation.sets import evaluate_sets
from jaxsearch.evaluation.subject import run_subject
from jaxsearch.rewards.tasks import task_named
from jaxsearch.run.build import open_run
from jaxsearch.run.folder import write_record
from jaxsearch.run.loading import open_anywhere
from jaxsearch.run.model_config import model_config
from tests.served.model_server import model_server
from tests.served.test_run import (
    MAX_LEN,
    NUM_QUESTIONS,
    POLICY,
    choices,
    chosen_config,
    model,
    on_one_device,
)
from tests.tiny import tiny_config

__all__ = ["choices", "model"]


PREDICTIONS = "predictions.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def options(choices, *names):
    given = {"task": choices["task"], **choices}
    return [word for name in names for word in (f"--{name}", given[name])]


def evaluated(choices, out, *words):
    chosen = options(choices, "task", "questions", "index")
    return main(["eval", *words, *chosen, "--out", str(out), "--logprobs"])


def served(url, *words):
    return ["--model-url", url, "--tokenizer", POLICY, *words]


def eight(url):
    return served(url, "--concurrency", "8")


@pytest.fixture(scope="module")
def local(choices, tmp_path_factory):
    """The evaluation of the policy in this process, on one of its devices."""
    out = tmp_path_factory.mktemp("evaluations") / "local"
    config = chosen_config(model_config(POLICY, task_named("quickstart")), choices)
    run = open_anywhere(on_one_device(config))
    params = run.rollout_params(run.initial_params())
    asked = QuestionSet(
        name="questions",
        source=choices["questions"],
        questions=run.inputs.heldout,
        num_all=NUM_QUESTIONS,
    )
    subject = run_subject(run, params, POLICY, "", num_rollouts=NUM_QUESTIONS)
    evaluate_sets(out, subject, [asked], AnswerOptions(keeps_tokens=True))
    return out


@pytest.mark.slow
def test_the_same_ids_and_the_same_table(choices, model, local, tmp_path, capsys):
    with model_server(model, max_model_len=MAX_LEN) as (url, _):
        assert evaluated(choices, tmp_path / "served", *eight(url)) == 0
    table = capsys.readouterr().out
    here, there = (lines(p / "predictions.jsonl") for p in (local, tmp_path / "served"))
    assert len(there) == NUM_QUESTIONS
    for one, other in zip(here, there, strict=True):
        logprobs = zip(one.pop("logprobs"), other.pop("logprobs"), strict=True)
        assert all(abs(a - b) < 1e-3 for a, b in logprobs)
        assert one == other
    results = json.loads((tmp_path / "served" / "results.json").read_text())
    labels = {"model": "policy", "tokenizer": POLICY, "ids": True, "model_url": url}
    assert {name: results.pop(name) for name in labels} == labels
    expected = json.loads((local / "results.json").read_text())
    del expected["model"]
    assert results == expected
    assert "EM" in table


@pytest.mark.slow
def test_failed_questions_have_reasons_and_are_asked_again(
    choices, model, local, tmp_path, capsys
):
    out = tmp_path / "out"
    with model_server(model, max_model_len=MAX_LEN) as (url, ways):
        words = [*served(url), "--concurrency", "1", "--limit", "4"]

        def fails_twice():
            # The first request is that of the check.
            ways.failures[:] = [0.0, 400, 400]

        fails_twice()
        assert evaluated(choices, out, *words) == 1
        error = capsys.readouterr().err
        assert "failed to give 2 of 4 answers" in error
        assert "status 400" in error and "--allow-failures 2" in error
        reasons = lines(out / "failures.jsonl")
        assert len(reasons) == 2 and "status 400" in reasons[0]["reason"]
        results = json.loads((out / "results.json").read_text())
        assert results["num_model_failed"] == 2
        assert len(lines(out / "predictions.jsonl")) == 2
        fails_twice()
        assert evaluated(choices, out, *words, "--allow-failures", "2") == 0
        ways.bodies.clear()
        assert evaluated(choices, out, *words) == 0
        assert len({tuple(body["prompt"][:20]) for body in ways.bodies}) < 6
    assert not (out / "failures.jsonl").exists()
    asked = [line["ids"] for line in lines(out / "predictions.jsonl")]
    assert asked == [line["ids"] for line in lines(local / "predictions.jsonl")[:4]]


@pytest.mark.slow
def test_ids_are_those_of_every_answer(choices, model, tmp_path, capsys):
    """The check has them, and the first answer of another command."""
    out = tmp_path / "out"
    with model_server(model, max_model_len=MAX_LEN, num_with_ids=4) as (url, ways):
        words = [*served(url), "--concurrency", "1", "--limit", "4"]
        assert evaluated(choices, out, *words) == 0
        ways.num_with_ids = None
        assert evaluated(choices, out, *words) == 0
    again = [line.get("is_encoded_again", False) for line in lines(out / PREDICTIONS)]
    assert not again[0] and again[-1]
    assert json.loads((out / "results.json").read_text())["ids"] is False


@pytest.mark.slow
def test_a_server_that_is_gone_loses_nothing(choices, model, tmp_path, capsys):
    out = tmp_path / "out"
    with model_server(model, max_model_len=MAX_LEN) as (url, ways):
        ways.failures[:] = [0.0] * 30 + [400] * 99
        words = [*eight(url), "--samples", "3", "--temperature", "0.5"]
        assert evaluated(choices, out, *words) == 75
    assert "questions in a row" in capsys.readouterr().err
    assert lines(out / "predictions.jsonl")


@pytest.mark.slow
def test_ask_answers_through_a_server(choices, model, capsys):
    question = "What is the birthplace of the mayor of Vasdib?"
    chosen = options(choices, "task", "index")
    with model_server(model, max_model_len=MAX_LEN) as (url, _):
        assert main(["ask", *served(url), *chosen, question, "--json"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["searches"]
    with model_server(model, max_model_len=MAX_LEN, failures=[0.0, 400]) as (url, _):
        assert main(["ask", *served(url), *chosen, question]) == 1
    assert "the model server failed: no answer in 1 attempt" in capsys.readouterr().err


def test_select_tries_through_a_server(choices, model, tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from pathlib import Path\n"
        "from tests.tiny import tiny_config\n"
        f"config = tiny_config(Path({str(tmp_path / 'run')!r}))\n"
    )
    out = tmp_path / "chosen"
    words = ["select", str(config), "--tries", "2", "--limit", "4", "--out", str(out)]
    with model_server(model, max_model_len=MAX_LEN) as (url, ways):
        chosen = ["--model-url", url, "--tokenizer", POLICY]
        assert main([*words, *chosen]) == 0
        num_asked = len(ways.bodies)
        assert main([*words, *chosen]) == 0
    assert len(lines(out / "tries.jsonl")) == 4
    # Only the check; no try is repeated.
    assert len(ways.bodies) == num_asked + 1


@pytest.mark.slow
def test_a_run_gives_questions_tools_and_budgets(model, tmp_path, capsys):
    """The folder of the run whose policy is served; its checkpoint is not read."""
    policy = ModelConfig(path=POLICY)
    run = open_run(tiny_config(tmp_path / "run", model=policy))
    write_record(run.config, "")
    (tmp_path / "run" / "checkpoints").mkdir()
    questions = run.inputs.heldout
    expected, _ = run.sampler.run(
        run.rollout_params(run.initial_params()),
        list(enumerate(questions)),
        run.environments.heldout,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=0.0,
    )
    out, num_questions = tmp_path / "out", str(len(questions))
    with model_server(model) as (url, _):
        words = ["--model-url", url, "--tokenizer", str(tmp_path / "run")]
        words += ["--limit", num_questions, "--logprobs", "--out", str(out)]
        assert main(["eval", *words]) == 0
    for line, one in zip(lines(out / "predictions.jsonl"), expected, strict=True):
        assert line["ids"] == one.tokens.tolist()
    assert any(one.searches for one in expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model-url", "http://h/v1"], "--model-url needs --tokenizer"),
        (["--model-url", "h:1", "--tokenizer", POLICY], "http://HOST:PORT/v1"),
        (["--model-url", "http://h/v1", "--model", POLICY], "leave out --model"),
        (["--model", POLICY, "--model-name", "a"], "belongs to --model-url"),
        (["--model", POLICY, "--concurrency", "8"], "belongs to --model-url"),
        (["--model", POLICY, "--seed", "8"], "of --sample, which is missing"),
        (["--model", POLICY, "--allow-failures", "0"], "belongs to --model-url"),
        (["--model", POLICY, "--judge-attempts", "5"], "needs --judge-url"),
        (["--model", POLICY, "compare", "a", "b"], "--model is an option of an eval"),
        (
            ["--model-url", "http://h/v1", "--tokenizer", "x", "--concurrency", "0"],
            "at least 1",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line(words, message, tmp_path, capsys):
    assert main(["eval", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "--model", POLICY, "--index", "x"], "--index needs a question"),
        (["ask", "--model", POLICY, "--concurrency", "8", "Q"], "unknown: --conc"),
        (
            ["select", "quickstart", "--model", POLICY, "--tries", "2"]
            + ["--at-least", "0.5"],
            "--at-least 0.5 is for --right f1",
        ),
    ],
)
def test_options_without_effect_are_one_line(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
