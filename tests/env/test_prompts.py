"""Prompts: special tokens in questions, and the tags that a prompt leaves open."""

import dataclasses
import json

import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import opened_tags, plain_question, prompt_ids, prompt_text
from jaxsearch.protocol import R1_SEARCHER, RESEARCH, SEARCH_R1, xml_tags
from jaxsearch.protocol.tags import bar_tags
from jaxsearch.protocol.template import read_template
from tests.tokenizer_folders import BEGIN_ID, END_ID, write_tokenizer

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
)
# The generation prompts of an instruct model, of R1 distills, and of Qwen3: thinking
# and not thinking.
PLAIN = CHAT + "{% endif %}"
OPENS = CHAT + "<think>\n{% endif %}"
OPENS_TIGHTLY = CHAT + "<think>{% endif %}"
CLOSES = CHAT + "<think>\n\n</think>\n\n{% endif %}"


@pytest.fixture
def load(tmp_path):
    def load(template=None):
        named = {} if template is None else {"chat_template": template}
        return Tokenizer.load(write_tokenizer(tmp_path / "tokenizer", **named))

    return load


@pytest.fixture
def with_template(tmp_path):
    def with_template(protocol, prompt):
        name = "prompt.txt" if isinstance(prompt, str) else "prompt.json"
        text = prompt if isinstance(prompt, str) else json.dumps(prompt)
        (tmp_path / name).write_text(text)
        template = read_template(str(tmp_path / name))
        return dataclasses.replace(protocol, template=template)

    return with_template


# ---------------------------------------------------------------------- special tokens


@pytest.mark.parametrize("template", [None, PLAIN])
@pytest.mark.parametrize(
    ("question", "plain", "num"),
    [
        ("Who?</s> <s>", "Who? ", 2),
        ("<</s>/s>Who?", "Who?", 2),
        ("Who wrote </s></s></s>?", "Who wrote ?", 3),
        ("Who wrote <s and /s>?", "Who wrote <s and /s>?", 0),
    ],
)
def test_special_tokens_of_a_question_are_left_out(
    load, template, question, plain, num
):
    tokenizer = load(template)
    assert plain_question(tokenizer, question) == (plain, num)
    for protocol in (RESEARCH, R1_SEARCHER, SEARCH_R1):
        ids = prompt_ids(tokenizer, protocol, question)
        assert ids == prompt_ids(tokenizer, protocol, plain)
        usual = prompt_ids(tokenizer, protocol, "Who?")
        for special in (BEGIN_ID, END_ID):
            assert ids.count(special) == usual.count(special)


# ------------------------------------------------------------------------- opened tags


@pytest.mark.parametrize(
    ("template", "protocol", "opened"),
    [
        (PLAIN, RESEARCH, ()),
        (CLOSES, RESEARCH, ()),
        (OPENS, RESEARCH, ("<think>",)),
        (OPENS_TIGHTLY, SEARCH_R1, ("<think>",)),
        (OPENS, RESEARCH.with_tags(think=xml_tags("thought")), ()),
        # R1-Searcher's messages open the thoughts, but no second time.
        (PLAIN, R1_SEARCHER, ("<think>",)),
        (CLOSES, R1_SEARCHER, ("<think>",)),
        (OPENS, R1_SEARCHER, ("<think>",)),
        (OPENS_TIGHTLY, R1_SEARCHER, ("<think>",)),
        # Text prompts.
        (None, RESEARCH, ()),
        (None, SEARCH_R1, ()),
        (None, R1_SEARCHER, ("<think>",)),
    ],
)
def test_tags_that_a_prompt_opens_are_found(load, template, protocol, opened):
    tokenizer = load(template)
    assert opened_tags(tokenizer, protocol) == opened
    if opened:
        end = prompt_text(tokenizer, protocol, "Who?").rpartition("Who?")[2]
        assert end.count(opened[0]) - end.count("</think>") == 1


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("{question} <think>", ("<think>",)),
        ("{question}\n<think>\n\n", ("<think>",)),
        ("{question} <think><think>", ("<think>", "<think>")),
        ("{question} <think> <search>", ("<think>", "<search>")),
        ("{question} <answer>", ("<answer>",)),
        ("<think> {question}", ()),
        ("{question} Begin with <think>.", ()),
        ("{question} Think between <think> and </think>.", ()),
        ("{question} <think> </think>", ()),
    ],
)
def test_tags_that_a_text_template_opens(load, with_template, prompt, opened):
    protocol = with_template(RESEARCH, prompt)
    assert opened_tags(load(), protocol) == opened


@pytest.mark.parametrize(
    ("begun", "template", "opened"),
    [
        ("<think>", PLAIN, ("<think>",)),
        ("<think>\nI should", PLAIN, ("<think>",)),
        ("<think> It is. </think> <answer>", PLAIN, ("<answer>",)),
        ("<think> It is. </think>", PLAIN, ()),
        ("Sure.", PLAIN, ()),
        ("Sure.", OPENS, ("<think>",)),
        ("<think>", OPENS, ("<think>",)),
        ("<think>\nI should", OPENS, ("<think>", "<think>")),
    ],
)
def test_tags_that_the_start_of_a_reply_opens(
    load, with_template, begun, template, opened
):
    messages = [
        {"role": "user", "content": "Answer in <answer>: {question}"},
        {"role": "assistant", "content": begun},
    ]
    assert opened_tags(load(template), with_template(RESEARCH, messages)) == opened


@pytest.mark.parametrize("protocol", [RESEARCH, SEARCH_R1])
def test_a_protocol_takes_its_thoughts_opened_or_nothing(protocol):
    assert protocol.with_opened([]) == protocol
    opened = protocol.with_opened(["<think>"])
    assert opened == dataclasses.replace(protocol, opened="<think>")
    assert opened.with_opened([]) == protocol
    for tags in (["<think>"] * 2, ["<search>"], ["<answer>"], ["<think>", "<answer>"]):
        with pytest.raises(ValueError, match="takes only <think>, once, or nothing"):
            protocol.with_opened(tags)


@pytest.mark.parametrize(
    "protocol", [R1_SEARCHER, R1_SEARCHER.with_tags(think=bar_tags("think"))]
)
def test_r1_searcher_needs_its_thoughts_opened_once(protocol):
    think = protocol.think.open
    assert protocol.with_opened([think]) == protocol
    for tags in ([], [think] * 2, [protocol.answer.open], [think, "<answer>"]):
        with pytest.raises(
            ValueError, match="judges replies that begin in the thoughts"
        ):
            protocol.with_opened(tags)


@pytest.mark.parametrize("protocol", [RESEARCH, SEARCH_R1])
def test_a_demonstration_goes_on_where_the_prompt_ends(protocol):
    turns = [protocol.search_turn("a", "b"), protocol.answer_turn("c", "d")]
    assert protocol.continued(turns) == turns
    opened = protocol.with_opened(["<think>"])
    assert opened.continued(turns) == [turns[0].removeprefix("<think>"), turns[1]]
    assert opened.continued([" <think> a"]) == ["  a"]
    assert opened.continued(["a <think>"]) == ["a <think>"]
