"""The end of a run: its results, and commands that work where the user stands."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsearch.commands import invocation
from jaxsearch.commands.next_steps import closing_lines
from jaxsearch.evaluation.before_after import before_and_after
from jaxsearch.json_lines import append_line
from jaxsearch.run.config_names import config_names
from tests.tiny import tiny_config

QUESTION = "Who is Ann's, or \"Bo's\", $mayor?"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A program `jaxsearch` in a virtual environment below the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".venv" / "bin" / "jaxsearch"
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(path), "train"])
    return path


def evaluated(folder: Path) -> None:
    """Writes an eval.jsonl; evaluations repeated by a resumed run count once."""
    folder.mkdir(parents=True)
    shared = {"step": 1, "stage": "search", "n": 3}
    for name, em, hops in (
        ("before_rl", 0.9, (0.9, 0.9)),
        ("before_rl", 1 / 3, (0.5, 0.0)),
        ("heldout", 0.5, (0.5, 0.5)),
        ("after_rl", 2 / 3, (0.5, 1.0)),
        ("empty_index", 0.0, (0.0, 0.0)),
    ):
        by_hops = {
            "1": {"n": 2, "em": hops[0], "searches": 1.0},
            "comparison": {"n": 1, "em": hops[1], "searches": 2.5},
        }
        line = {"name": name, "em": em, "searches_per_question": 1.5}
        append_line(folder / "eval.jsonl", {**shared, **line, "by_hops": by_hops})


def test_exact_match_before_and_after_by_hops(tmp_path):
    evaluated(tmp_path / "run")
    lines = before_and_after(tmp_path / "run")
    assert [line.split() for line in lines] == [
        ["held", "out", "n", "EM", "before", "EM", "after", "searches"],
        ["1", "hop", "2", "0.500", "0.500", "1.00"],
        ["comparison", "1", "0.000", "1.000", "2.50"],
        ["all", "3", "0.333", "0.667", "1.50"],
        ["empty", "index", "3", "0.000", "1.50"],
    ]
    assert {len(line) for line in lines} == {51}


def test_a_run_without_evaluations_has_no_table(tmp_path):
    assert before_and_after(tmp_path) == []


@pytest.mark.parametrize(("width", "policy"), [(60, ""), (80, "jaxsearch:quickstart")])
def test_the_commands_at_the_end_work_as_written(script, tmp_path, width, policy):
    """They are given to a shell, with a question full of quotes."""
    evaluated(tmp_path / "a run")
    config = tiny_config(Path("a run"))
    model = dataclasses.replace(config.model, path=policy)
    config = dataclasses.replace(config, model=model)
    result = {"minutes": 5.96, "question": QUESTION}
    lines = closing_lines(config, "configs/quickstart.py", result, width)
    assert max(len(line) for line in lines) <= width
    assert "6.0 minutes; report: a run/report.html" in lines
    typed = "\n".join(lines).split("\n\n")
    [asked] = [text for text in typed if text.startswith("ask it")]
    assert shell(asked.partition("\n")[2]) == ["ask", "--model", "a run", QUESTION]
    [own] = [text for text in typed if text.startswith("train on your own data")]
    command = "\n".join(own.splitlines()[1:-2])
    words = shell(command)
    assert words[:2] == ["train", "hotpotqa_real"]
    assert words[1] in config_names()
    assert words[2:4] == ["--model.tokenizer", "Qwen/Qwen2.5-0.5B"]


def shell(command: str) -> list[str]:
    """The words that a shell gives to the program."""
    done = subprocess.run(
        ["sh", "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_own_data_starts_from_the_same_model(script, tmp_path):
    model = dataclasses.replace(tiny_config(tmp_path).model, tokenizer="Qwen/Qwen3-8B")
    config = tiny_config(tmp_path / "run", model=model)
    lines = closing_lines(config, "own.py", {"minutes": 1.0}, 80)
    text = " ".join(shlex.split(" ".join(lines).replace("\\", " ")))
    assert "train own.py --model.tokenizer Qwen/Qwen3-8B --data.questions" in text
    assert "ask it" not in text


def test_the_program_is_named_as_the_shell_finds_it(script, tmp_path, monkeypatch):
    assert invocation.program() == ["./.venv/bin/jaxsearch"]
    monkeypatch.chdir(script.parent)
    assert invocation.program() == ["./jaxsearch"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invocation.program() == [str(script)]
    monkeypatch.setenv("PATH", str(script.parent))
    assert invocation.program() == ["jaxsearch"]
    # The shell finds another one.
    other = tmp_path / "elsewhere" / "jaxsearch"
    shutil.copy(script, other)
    monkeypatch.setenv("PATH", str(other.parent))
    assert invocation.program() == [str(script)]
    monkeypatch.setattr(sys, "argv", ["/somewhere/jaxsearch/__main__.py"])
    assert invocation.program() == [sys.executable, "-m", "jaxsearch"]
