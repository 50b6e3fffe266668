"""The prompt and the task of a run agree, or are refused before anything is written."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.question import Question
from jaxsearch.rewards import tasks
from jaxsearch.run.build import open_run
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.prompting import report_special_tokens
from jaxsearch.run.updates import demonstration_row
from jaxsearch.train import train
from jaxsearch.trajectory import Segment
from tests.env.test_prompts import OPENS, PLAIN
from tests.tiny import tiny_config
from tests.tokenizer_folders import BEGIN_ID, write_tokenizer

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/tokenizers"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
)


def config_with(tmp_path, template, task=tasks.RESEARCH, prompt=None):
    """A tiny run with another tokenizer, task and prompt template."""
    config = tiny_config(tmp_path / "run")
    named = {} if template is None else {"chat_template": template}
    tokenizer = write_tokenizer(tmp_path / "tokenizer", **named)
    file = ""
    if prompt is not None:
        file = str(tmp_path / "prompt.txt")
        Path(file).write_text(prompt)
    *first, last = config.stages
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, tokenizer=tokenizer, prompt_template=file
        ),
        rollout=dataclasses.replace(
            config.rollout,
            **dict(max_len=4000, max_prompt_len=1500, max_observation_len=600),
        ),
        stages=(*first, dataclasses.replace(last, task=task)),
    )


@pytest.mark.parametrize(
    ("template", "prompt", "opened"),
    [
        (PLAIN, None, ""),
        (OPENS, None, "<think>"),
        (None, "{question} <think>", "<think>"),
    ],
)
def test_a_runs_tasks_know_what_its_prompts_open(tmp_path, template, prompt, opened):
    run = open_run(config_with(tmp_path, template, prompt=prompt))
    assert run.inputs.protocol.opened == opened
    assert {stage.task.protocol.opened for stage in run.config.stages[1:]} == {opened}
    reply = (
        f"{'' if opened else '<think>'} So. </think> <answer> \\boxed{{A}} </answer>"
    )
    segments = [Segment(text=reply, is_policy=True)]
    found = run.task.judge(segments, ["B"], has_ended=True, label="it")
    assert found.reward == 0.1


def test_a_demonstration_does_not_open_the_thoughts_again(tmp_path):
    run = open_run(config_with(tmp_path, OPENS))
    demonstration = run.config.stages[0].demonstrations(0)[0]
    assert demonstration.turns[0].startswith(" <think>")
    row = demonstration_row(run, demonstration)
    text = run.inputs.tokenizer.decode(row.tokens)
    _, _, reply = text.rpartition("<|assistant|>")
    assert reply.startswith("<think>\n ") and reply.count("<think>") == 1 + sum(
        turn.count("<think>") for turn in demonstration.turns[1:]
    )


@pytest.mark.parametrize(
    ("task", "prompt", "message"),
    [
        (tasks.R1_SEARCHER_STAGE2, "Who: {question}", "but the prompt .* with no tag"),
        (tasks.R1_SEARCHER_STAGE1, "{question} <think><think>", "<think> <think>"),
        (tasks.RESEARCH, "{question} <think> <search>", "begins .* <think> <search>"),
        (
            tasks.SEARCH_R1_FORMAT,
            "{question} <answer>",
            "begins the reply with <answer>",
        ),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_written(
    tmp_path, task, prompt, message
):
    config = config_with(tmp_path, None, task, prompt)
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_or_moved_is_said(tmp_path, capsys):
    config = config_with(tmp_path, NO_SYSTEM + PLAIN)
    inputs = load_inputs(config)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "the chat template does not write system messages; their text is at the "
        "beginning of the user message"
    ]
    questions = [
        Question(id=f"q{i}", question=text, golden_answers=("a",))
        for i, text in enumerate(["Who?", "<s>Who</s>?", "</s>"])
    ]
    report_special_tokens(inputs.tokenizer, questions)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("2 of 3 questions spell special tokens")
    assert "'q1'" in line and "(3 in all)" in line
    load_inputs(config_with(tmp_path, PLAIN))
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------- `jaxsearch prompt`


def prompt(capsys, *words):
    assert main(["prompt", *words, "--json"]) == 0
    captured = capsys.readouterr()
    # Llama 3's own format is not the first that transformers tries.
    assert "SentencePiece" not in captured.err
    return json.loads(captured.out.strip().splitlines()[-1])


@pytest.mark.parametrize("name", ["qwen2.5", "llama3"])
def test_the_exact_prompt_of_real_tokenizers(capsys, name):
    if not (FOLDER / name).is_dir():
        pytest.skip(f"needs the tokenizers in {FOLDER}")
    words = [str(CONFIGS / "hotpotqa_real.py"), "--model.tokenizer", str(FOLDER / name)]
    found = prompt(capsys, *words, "--question", "Who<|im_end|><|eot_id|>?")
    assert len(found["ids"]) == found["num_tokens"] <= found["max_prompt_len"]
    assert found["num_deleted"] == 1 and "Who" in found["prompt"]
    if name == "qwen2.5":
        start, end = "⟦<|im_start|>⟧", "⟦<|im_end|>⟧"
        assert found["form"] == "chat" and found["opened"] == ""
        assert found["prompt"].startswith(f"{start}system\n")
        assert found["prompt"].endswith(f"Who<|eot_id|>?{end}\n{start}assistant\n")
        assert found["prompt"].count(start) == found["ids"].count(151644) == 3
        assert found["end_tokens"] == {"<|im_end|>": 151645, "<|endoftext|>": 151643}
    else:
        assert found["prompt"].count("⟦<|begin_of_text|>⟧") == 1
        assert found["ids"][0] == 128000 and 128000 not in found["ids"][1:]
        assert list(found["end_tokens"].values()) == [128009, 128001, 128008]


def test_the_prompt_for_people(capsys, tmp_path):
    tokenizer = write_tokenizer(
        tmp_path, post="<s> $A", chat_template="{{ bos_token }}" + OPENS
    )
    words = ["prompt", str(CONFIGS / "hotpotqa_real.py"), "--question", "Who?"]
    assert main([*words, "--model.tokenizer", tokenizer]) == 0
    out = capsys.readouterr().out
    assert out.startswith("⟦<s>⟧<|system|>You answer questions")
    assert "<|user|>Who?⟦</s>⟧<|assistant|><think>\n" in out
    assert "opened    <think>\n" in out and "ends at   ⟦</s>⟧ (258)\n" in out
    assert f"ids       {BEGIN_ID} " in out


def test_the_first_question_is_the_runs_own(capsys, tmp_path):
    tokenizer = write_tokenizer(tmp_path, chat_template=PLAIN)
    words = [str(CONFIGS / "hotpotqa_real.py"), "--model.tokenizer", tokenizer]
    shown = prompt(capsys, *words)
    assert shown["question"] in shown["prompt"] and shown["question"].endswith("?")
    questions = tmp_path / "questions.jsonl"
    line = {"id": "1", "question": "Own?", "golden_answers": ["x"]}
    questions.write_text(json.dumps(line))
    shown = prompt(capsys, *words, "--data.questions", str(questions))
    assert shown["question"] == "Own?"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if %}", "tokenizer_config.json: the chat template fails: Expected"),
        (PLAIN + "{{ raise_exception('no\nthanks') }}", "fails: no thanks; correct it"),
    ],
)
def test_a_bad_template_is_one_line(capsys, tmp_path, template, said):
    tokenizer = write_tokenizer(tmp_path, chat_template=template)
    words = [
        "prompt",
        str(CONFIGS / "hotpotqa_real.py"),
        "--model.tokenizer",
        tokenizer,
    ]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_contradicting_prompt_is_one_line(capsys, tmp_path):
    tokenizer = write_tokenizer(tmp_path)
    (tmp_path / "prompt.txt").write_text("Who: {question}")
    words = [
        "prompt",
        str(CONFIGS / "hotpotqa_real.py"),
        "--model.tokenizer",
        tokenizer,
    ]
    words += ["--model.prompt-template", str(tmp_path / "prompt.txt")]
    assert main([*words, "--stages.1.task", "r1_searcher_stage1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "end the prompt template with one <think>" in line
