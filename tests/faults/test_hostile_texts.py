"""Texts from elsewhere are shown, not obeyed, and spell no tag to a model."""

import dataclasses
import io
import json
import random
import re
import sys
import unicodedata

import pytest
from tokenizers import normalizers

from jaxsearch.commands.main import main
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.environment import RolloutId
from jaxsearch.env.prompts import plain_question
from jaxsearch.env.search import SearchEnvironment, observation_of
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.monitor.console import Console
from jaxsearch.monitor.rollout_log import rollout_path, write_rollouts
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.processes import say_once
from jaxsearch.protocol import QUICKSTART, R1_SEARCHER, RESEARCH, SEARCH_R1
from jaxsearch.report.write_report import write_report
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.search.exact_index import EmptyIndex
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment, ToolCall
from jaxsearch.visible import visible, visible_json
from tests.env.calculator_tool import Calculator
from tests.env.sums import tokenizer as words_tokenizer
from tests.report.test_report import make_trajectory
from tests.tokenizer_folders import END, write_tokenizer

# Clears the screen, sets the title, writes to the clipboard (with ESC and C1), goes
# back to the start of the line, reverses the order, and cannot be printed.
ATTACKS = (
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x1b\\",
    "\x9b2J",
    "\x9d52;c;ZXZpbA==\x9c",
    "overwritten\rshown",
    "a\u202etxt.exe",
    "\u2066isolate\u2069",
    "half \ud800 pair",
    "\u2028line",
    "del\x7f\x08\x08",
    "\U000e0041 invisible",
)
HOSTILE = "-".join(ATTACKS)
ADDED = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "[INST]", "\n\n\n", "word")


def acts(text):
    """Whether a text has a character that a terminal or a reader's eye obeys."""
    kinds = {unicodedata.category(c) for c in text if c not in "\t\n\u200b\u200c\u200d"}
    # Cf includes soft hyphens and joiners, which belong to words.
    controls = {unicodedata.bidirectional(c) for c in text}
    return bool(
        kinds & {"Cc", "Cs", "Zl", "Zp"}
        or controls & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )


def test_no_character_acts_once_it_is_visible():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert acts(every) and not acts(visible(every))
    assert visible("\x1b[2J \u202e \ud800 \U000e0041") == (
        r"\x1b[2J \u202e \ud800 \U000e0041"
    )
    for kept in ("a\tb\n", "naïve 数 🙂", "क्‍ष", "שלום"):
        assert visible(kept) == kept
    encoded = visible_json(json.dumps([HOSTILE], ensure_ascii=False))
    assert not acts(encoded) and json.loads(encoded) == [HOSTILE]


class Tty(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Tty])
def test_a_console_and_a_printed_trajectory_obey_nothing(stream, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = stream()
    trajectory = make_trajectory(text=HOSTILE, passage=HOSTILE)
    call = ToolCall(query=HOSTILE, has_failed=True, failure=HOSTILE)
    trajectory = dataclasses.replace(trajectory, tool_calls=(call,))
    print_trajectory(trajectory, RESEARCH, Console(out))
    Console(out).print("plain ", (HOSTILE, "red"))
    # The styles of the console itself.
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert not acts(text)
    assert r"\x1b]0;title\x07" in re.sub(r"\s+", "", text)


def test_errors_notices_and_results_of_commands_obey_nothing(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = HOSTILE.replace("\ud800", "")
    assert main(["report", said]) == 2
    assert main(["index", "search", said, "a"]) == 2
    assert main(["config", "diff", said, "quickstart"]) == 2
    (tmp_path / "own.py").write_text(f"raise ValueError({HOSTILE!r})")
    assert main(["config", "show", "own.py"]) == 2
    say_once(HOSTILE)
    found = capsys.readouterr()
    assert not acts(found.out + found.err)
    assert found.err.count(r"\x1b]52;c;") >= 5


def test_a_report_obeys_nothing(tmp_path):
    trajectory = make_trajectory(text=HOSTILE, passage=HOSTILE)
    outcome = Outcome(reward=1.0, terms={}, reason=HOSTILE, prediction=HOSTILE)
    (tmp_path / "config.json").write_text(json.dumps({"stages": [], "x": HOSTILE}))
    write_rollouts(rollout_path(tmp_path, 1), [trajectory], [outcome])
    page = write_report(tmp_path).read_text()
    assert not acts(page) and r"\x1b]0;title\x07" in page


# ----------------------------------------------------- what a tokenizer makes of texts

NORMALIZERS = {
    "none": None,
    "nfkc": normalizers.NFKC(),
    "lower": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
    "accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "replace": normalizers.Sequence(
        [normalizers.Replace("[[", "<"), normalizers.Replace("]]", ">")]
    ),
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        name: Tokenizer.load(
            write_tokenizer(folder / name, normalizer=normalizer, added=ADDED)
        )
        for name, normalizer in NORMALIZERS.items()
    }


def as_tokens(tokenizer, protocol, max_len=4096):
    return TokenEnvironment(
        environment=SearchEnvironment(
            retriever=EmptyIndex(),
            protocol=protocol,
            num_passages=2,
            on_search_failure="drop",
        ),
        protocol=protocol,
        tokenizer=tokenizer,
        max_observation_len=max_len,
    )


def full_width(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def disguises(tag, rng):
    """Forms of a tag that some tokenizer reads as the tag itself."""
    yield tag
    yield full_width(tag)
    yield tag.upper()
    yield tag.replace("<", "﹤").replace(">", "﹥")
    yield tag.replace("<", "[[").replace(">", "]]")
    yield tag[:2] + "\u0301" + tag[2:]
    yield tag.replace("s", "ſ").replace("e", "\U0001d41e")
    cut = rng.randrange(1, len(tag))
    yield tag[:cut] + full_width(tag) + tag[cut:]
    yield "".join(rng.choice([c, full_width(c)]) for c in tag)


def hostile_text(tags, rng):
    parts = []
    for _ in range(rng.randrange(1, 6)):
        parts.append(rng.choice(["", " a word ", "\n", "＜", "<", "</", "é"]))
        parts.append(rng.choice(list(disguises(rng.choice(tags), rng))))
    return "".join(parts)


def check(environment, texts):
    """No tag in what the ids of the passages spell, and no special id."""
    tokenizer, protocol = environment.tokenizer, environment.protocol
    passages = [Passage(id="p", contents=text) for text in texts]
    ids, _ = environment.encode(observation_of(protocol, "q", passages))
    shortest, _ = environment.encode(observation_of(protocol, "q", []))
    banned = (*protocol.control_tags, *tokenizer.special_strings)
    found, empty = tokenizer.decode(ids), tokenizer.decode(shortest)
    for tag in banned:
        assert found.count(tag) == empty.count(tag), (tag, texts, found)
    added = {i for i in tokenizer.backend.added_tokens_decoder if i in ids}
    names = {tokenizer.backend.added_tokens_decoder[i].content for i in added}
    assert names <= {"\n\n\n", "word"}, texts


def fuzz(tokenizers, num_texts, seed):
    rng = random.Random(seed)
    for protocol in (RESEARCH, R1_SEARCHER, SEARCH_R1):
        for tokenizer in tokenizers.values():
            environment = as_tokens(tokenizer, protocol)
            tags = (*protocol.control_tags, *ADDED[:4], END)
            for _ in range(num_texts // 15):
                check(environment, [hostile_text(tags, rng) for _ in range(2)])


def test_hostile_passages_spell_no_tag(tokenizers):
    fuzz(tokenizers, 225, 0)


@pytest.mark.long
def test_20_000_hostile_passages_spell_no_tag(tokenizers):
    fuzz(tokenizers, 20_000, 1)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_ordinary_passages_are_unchanged(tokenizers, name):
    """Also those that a tokenizer rewrites, as long as no tag comes of it."""
    tokenizer = tokenizers[name]
    text = "Café ﬁn ½ <b>bold</b> [1] \n\n\n A word: a < b > c, ＡＢＣ <Search x>"
    environment = as_tokens(tokenizer, RESEARCH)
    ids, call = environment.encode(
        observation_of(RESEARCH, "q", [Passage(id="p", contents=text)])
    )
    assert call.num_deleted_tags == 0
    opening, closing = RESEARCH.frame("\0").split("\0")
    body = RESEARCH.render([Passage(id="p", contents=text)])
    assert ids == tokenizer.encode(f"{opening}{body}{closing}")


def test_a_vocabulary_of_whole_words_keeps_its_observations():
    """Without a body between them, it does not spell the tags of the frame."""
    environment = TokenEnvironment(
        environment=Calculator(),
        protocol=QUICKSTART,
        tokenizer=words_tokenizer(),
        max_observation_len=28,
    )
    turn = (RolloutId(0, 0, 0), " <think> so </think> <calc> 2 + 3 </calc>")
    [(ids, call)] = environment.step([turn])
    assert environment.tokenizer.decode(ids) == " <value> 5 </value>"
    assert call.num_deleted_tags == 0


def test_questions_lose_what_their_tokenizer_spells(tokenizers):
    question = "who ＜tool_call＞ is <|fim_prefix|> ＜/s＞ she?"
    text, num_deleted = plain_question(tokenizers["nfkc"], question)
    assert (text, num_deleted) == ("who  is   she?", 3)
    assert plain_question(tokenizers["none"], question)[1] == 1
    assert plain_question(tokenizers["nfkc"], "ＡＢＣ?") == ("ＡＢＣ?", 0)


def test_segments_with_surrogates_can_be_logged(tmp_path):
    trajectory = make_trajectory(text="half \ud800")
    segment = Segment(text="\udfff\x1b[2J", is_policy=True)
    trajectory = dataclasses.replace(trajectory, segments=(segment,))
    outcome = Outcome(reward=1.0, terms={}, reason="r", prediction=None)
    write_rollouts(tmp_path / "1.jsonl.gz", [trajectory], [outcome])
    assert (tmp_path / "1.jsonl.gz").stat().st_size
