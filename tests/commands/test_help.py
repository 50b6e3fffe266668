"""--help fits the terminal: no line is wider, none is broken early."""

import itertools
import re

import pytest

from jaxsearch.commands.command_line import COMMANDS
from jaxsearch.commands.help_text import filled
from jaxsearch.commands.main import main
from jaxsearch.run.config_file import read_config
from tests.commands.test_main import CONFIGS, QUICKSTART


def shown(capsys, *words: str) -> list[str]:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS, "index build", "bench rollout"])
def test_no_line_is_wider_than_the_terminal(capsys, monkeypatch, width, command):
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, shown(capsys, *command.split()))) <= width


def early_breaks(lines: list[str], width: int) -> list[str]:
    """Lines under an option after which the first word of the next would fit."""
    found = []
    # The frame is of lines, or of spaces where the output is not UTF-8.
    texts = [re.fullmatch(r"( {8}\S.*?) *", line.replace("│", " ")) for line in lines]
    for text, following in itertools.pairwise(texts):
        if text and following:
            word = following[1].split()[0]
            if len(f"{text[1]} {word}") <= width - len(" |"):
                found.append(text[1])
    return found


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", ["quickstart", "r1_searcher_qwen2_5_7b_two_stages"])
def test_texts_of_fields_fill_their_lines(capsys, monkeypatch, width, name):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(CONFIGS)
    lines = shown(capsys, "train", f"{name}.py")[2:]  # the usage cannot be broken
    assert max(map(len, lines)) <= width
    assert early_breaks(lines, width) == []
    text = " ".join(" ".join(lines).replace("│", " ").split())
    assert "It does not change the length of learning rate schedules." in text
    assert " 0x" not in text and "{fixed}" not in text
    # An option without a text would have only its default below it.
    assert re.findall(r"(--\S+) \S+ \(default:", text) == []
    # A section keeps the description of its class.
    assert "Passages and the search over them." in text


def test_functions_are_shown_by_names_that_can_be_given(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, "train", QUICKSTART)
    text = " ".join(" ".join(lines).replace("│", " ").split())
    for option, default in {
        "stages.0.advantage": "group_relative",
        "stages.0.aggregation": "token_mean",
        "stages.0.objective.kl": "kl_k3",
        "stages.0.task": "quickstart",
        "data.source": "jaxsearch.data.quickstart:dataset",
    }.items():
        found = re.findall(rf"--{option} \S*MODULE:NAME .*?\(default: (\S+)\)", text)
        assert found == [default]


def test_prose_is_one_paragraph_and_rows_stay_rows():
    text = (
        "One two\nthree.\n\nlist:\n  a   the first\n  long_name  of a\n      row\nend"
    )
    assert filled(text, 80).splitlines() == [
        "One two three.",
        "",
        "list:",
        "  a   the first",
        "  long_name  of a row",
        "end",
    ]
    assert filled("  name  " + "word " * 12, 40).splitlines() == [
        "  name  word word word word word word",
        "        word word word word word word",
    ]


def test_a_command_stays_one_command():
    text = "  jaxsearch select a.py --model runs/b \\\n    --tries 8 --out chosen"
    assert filled(text, 80) == " ".join(text.replace("\\", "").split()).join(["  ", ""])
    assert filled(text, 32).splitlines() == [
        "  jaxsearch select a.py \\",
        "    --model runs/b --tries 8 \\",
        "    --out chosen",
    ]


def test_a_config_of_a_subclass_keeps_its_fields():
    """Fields of a class from elsewhere have no texts, and can still be overridden."""
    from jaxsearch.run.field_texts import field_texts

    config = read_config(QUICKSTART)
    assert set(field_texts(type(config.rollout))) >= {"num_slots", "max_len"}
    child = type("Child", (type(config.rollout),), {"__module__": "elsewhere"})
    assert field_texts(child) == field_texts(type(config.rollout))
