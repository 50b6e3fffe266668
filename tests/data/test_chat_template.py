"""Chat templates: rendered as transformers does; faults are one line with the file."""

import datetime

import pytest
from transformers import PreTrainedTokenizerFast

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import R1_SEARCHER, RESEARCH
from tests.tokenizer_folders import write_tokenizer

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who?"},
]
LOOP = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + LOOP
)
MUST_ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + LOOP
)
KNOWS_TWO_ROLES = (
    "{% set names = {'user': 'U', 'assistant': 'A'} %}"
    "{% for m in messages %}{{ names[m['role']] + m['content'] }}{% endfor %}"
)
OMITS_SYSTEM = (
    "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}\n{% endfor %}"
)


def theirs(folder, messages, **options):
    backend = PreTrainedTokenizerFast.from_pretrained(folder)
    return backend.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **options
    )


@pytest.mark.parametrize("template", [LOOP, "\n \n" + LOOP, "{{ bos_token }}" + LOOP])
@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES[1:]])
def test_a_template_is_rendered_as_transformers_does(tmp_path, template, messages):
    folder = write_tokenizer(tmp_path, chat_template=template)
    rendered = Tokenizer.load(folder).render_prompt("", messages)
    assert rendered == theirs(folder, messages)


@pytest.mark.parametrize(
    "template", [REFUSES_SYSTEM, MUST_ALTERNATE, KNOWS_TWO_ROLES, OMITS_SYSTEM]
)
def test_the_system_text_goes_to_the_user_where_its_role_is_refused(tmp_path, template):
    folder = write_tokenizer(tmp_path, chat_template=template)
    tokenizer = Tokenizer.load(folder)
    merged = [{"role": "user", "content": "Be brief.\n\nWho?"}]
    assert tokenizer.render_prompt("", MESSAGES) == theirs(folder, merged)
    assert not tokenizer.takes_system
    # The start of the reply stays one.
    begun = [*MESSAGES, {"role": "assistant", "content": "So"}]
    assert tokenizer.render_prompt("", begun) == theirs(folder, merged) + "So"
    # A template's own system text, without a user's.
    alone = [{"role": "user", "content": "Be brief."}]
    assert tokenizer.render_prompt("", MESSAGES[:1]) == theirs(folder, alone)


@pytest.mark.parametrize("protocol", [RESEARCH, R1_SEARCHER])
def test_a_protocols_instructions_reach_a_model_without_a_system_role(
    tmp_path, protocol
):
    folder = write_tokenizer(tmp_path, chat_template=REFUSES_SYSTEM)
    prompt = Tokenizer.load(folder).render_prompt("", protocol.messages("Who?"))
    assert protocol.instructions + "\n\nWho?" in prompt and "[system]" not in prompt


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% if %}", "Expected an expression.* line 1"),
        ("\n\n{{ messages", "unexpected end of template.* line 3"),
        ("{{ raise_exception('no\nthanks') }}", "no thanks"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError: "),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ 1 / (messages | length - messages | length) }}", "ZeroDivisionError: "),
        ("{{ messages | unheard_of }}", "No filter named 'unheard_of'.* line 1"),
    ],
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_that_fails_is_one_line(tmp_path, template, reason, file):
    if file == "chat_template.jinja":
        folder = write_tokenizer(tmp_path, chat_template=LOOP)
        (tmp_path / file).write_text(template)
    else:
        folder = write_tokenizer(tmp_path, chat_template=template)
    tokenizer = Tokenizer.load(folder)
    with pytest.raises(ValueError, match=f"{file}: the chat .*{reason}") as raised:
        tokenizer.render_prompt("", MESSAGES)
    assert "\n" not in str(raised.value)
    # A prompt without the template is not affected.
    assert Tokenizer.load(folder, prompt="base").render_prompt("Who?", []) == "Who?"


def test_templates_without_a_default_are_one_line(tmp_path):
    named = [{"name": "tool_use", "template": LOOP}, {"name": "rag", "template": LOOP}]
    folder = write_tokenizer(tmp_path, chat_template=named)
    with pytest.raises(ValueError, match="config.json: the chat template fails: .*rag"):
        Tokenizer.load(folder).render_prompt("", MESSAGES)


# ----------------------------------------------------------------------------- dates

DAY = datetime.datetime(2026, 2, 3)
FORMATS = ["%d %b %Y", "%Y-%m-%d", "%A, %B %-d, %y", "%j %H:%M:%S", "%x|%c|%I %p"]


@pytest.mark.parametrize("form", FORMATS)
def test_the_date_of_a_template_is_the_given_one(tmp_path, form):
    today = f"{{% set today = strftime_now('{form}') %}}"
    folder = write_tokenizer(tmp_path, chat_template=today + "{{ today }}\n" + LOOP)
    rendered = Tokenizer.load(folder, date="2026-02-03").render_prompt("", MESSAGES)
    plain = write_tokenizer(tmp_path / "plain", chat_template="{{ today }}\n" + LOOP)
    assert rendered == theirs(plain, MESSAGES, today=DAY.strftime(form))


@pytest.mark.parametrize(
    "template",
    [
        # As Llama 3.1, Mistral and gpt-oss ask for it.
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}",
        "{% set f = '%d %b %Y' %}{% for m in messages[:1] %}{{ strftime_now(f) }}"
        "{% endfor %}",
        "{% macro day() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{- day() }}",
        "\n{{- strftime_now('%d %b %Y') }}",
    ],
)
def test_dates_in_every_place_of_a_template(tmp_path, template):
    folder = write_tokenizer(tmp_path, chat_template=template + LOOP)
    rendered = Tokenizer.load(folder, date="2026-02-03").render_prompt("", MESSAGES)
    assert rendered.startswith("03 Feb 2026[system]Be brief.")


def test_without_a_date_it_is_today(tmp_path):
    folder = write_tokenizer(tmp_path, chat_template="{{ strftime_now('%Y-%m-%d') }}")
    days = {str(datetime.date.today())}
    rendered = Tokenizer.load(folder).render_prompt("", MESSAGES)
    assert rendered in days | {str(datetime.date.today())}
