"""Prompts from files: taken exactly, or refused in one line."""

import dataclasses
import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.protocol import R1_SEARCHER
from jaxsearch.protocol.template import read_template
from jaxsearch.run.inputs import load_inputs
from tests.tiny import tiny_config


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, newline="")
        return str(path)

    return write


def test_a_text_is_taken_to_the_letter(write):
    text = "Say \\boxed{x} or {y}.\n\nQ: {question}\nAgain: {question} <think>"
    template = read_template(write("prompt.txt", text + "\n"))
    protocol = dataclasses.replace(R1_SEARCHER, template=template)
    assert protocol.prompt("Who?") == text.replace("{question}", "Who?")
    assert protocol.control_tags == R1_SEARCHER.control_tags
    assert read_template(write("two.txt", text + "\n\n")).text == text + "\n"


def test_messages_are_those_of_the_file(write):
    messages = [
        {"role": "system", "content": "Answer {briefly}."},
        {"role": "user", "content": "Q: {question}"},
        {"role": "assistant", "content": "<think>"},
    ]
    template = read_template(write("chat.json", messages))
    protocol = dataclasses.replace(R1_SEARCHER, template=template)
    filled = protocol.messages("{question}?")
    assert [m["content"] for m in filled] == [
        "Answer {briefly}.",
        "Q: {question}?",
        "<think>",
    ]


def test_the_beginning_of_a_reply_follows_the_rendered_prompt():
    tokenizer = pieces_tokenizer(["▁red", "▁blue", "▁<think>", "▁bot"])
    tokenizer.backend.chat_template = (
        "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %} bot{% endif %}"
    )
    messages = [
        {"role": "user", "content": " blue"},
        {"role": "assistant", "content": " <think>"},
    ]
    expected = tokenizer.encode(" blue</s> bot <think>")
    assert tokenizer.encode_prompt("", messages) == expected


@pytest.mark.parametrize("name", ["prompt.txt", "chat.json"])
def test_a_byte_order_mark_is_not_part_of_a_prompt(tmp_path, name):
    content = "Question: {question}"
    if name == "chat.json":
        content = json.dumps([{"role": "user", "content": content}])
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    template = read_template(str(path))
    filled = template.fill_text("Who?") or template.fill_messages("Who?")[0]["content"]
    assert filled == "Question: Who?"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("chat.json", [{"role": "user", "content": "{question} \ud83d"}], "half of"),
        ("prompt.txt", "What is it?", "has no {question}"),
        ("chat.json", "[", "not JSON"),
        ("chat.json", "{question}", "not JSON"),
        ("chat.json", {"role": "user", "content": "{question}"}, "expected a list"),
        ("chat.json", [{"role": "user"}], "expected a list"),
        ("chat.json", [{"role": "user", "content": "x"}], "has no {question}"),
        ("chat.json", [], "has no {question}"),
    ],
)
def test_what_is_no_template_is_refused(write, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_template(write(name, content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"\xe9 {question}")
    for name in ("nothing.txt", "latin.txt", ""):
        with pytest.raises(ValueError, match="cannot read prompt template"):
            read_template(str(tmp_path / name))


def test_a_run_prompts_with_its_template(write, tmp_path):
    def inputs(**model):
        config = tiny_config(tmp_path / "run")
        changed = dataclasses.replace(config.model, **model)
        return load_inputs(dataclasses.replace(config, model=changed))

    path = write("prompt.txt", "Well: {question}")
    assert inputs(prompt_template=path).protocol.prompt("Who?") == "Well: Who?"
    with pytest.raises(ValueError, match="is 'chat'; set --model.prompt base"):
        inputs(prompt_template=path, prompt="chat")
    chat = write("chat.json", [{"role": "user", "content": "{question}"}])
    with pytest.raises(ValueError, match="this run's tokenizer does not support"):
        inputs(prompt_template=chat)


@pytest.mark.parametrize("command", [("ask", "Who?"), ("eval", "--out", "new")])
def test_the_command_refuses_a_bad_template_in_one_line(
    write, capsys, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    architecture = dict(
        model_type="qwen2",
        vocab_size=8,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    write("model/config.json", architecture)
    path = write("prompt.txt", "no place")
    words = [*command, "--model", "model", "--prompt-template", path]
    assert main(words) == 2
    # ask first says that it is loading.
    *said, line = capsys.readouterr().err.strip().splitlines()
    assert len(said) <= 1
    assert "has no {question}" in line
