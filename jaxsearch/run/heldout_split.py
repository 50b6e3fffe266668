"""Questions held out of the file that a run trains on.

A run whose config names questions to train on, but none to evaluate on, holds out a
share of its own. They are recorded in its folder, so that a run that resumes and every
later evaluation have the same ones.
"""

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jaxsearch import json_lines
from jaxsearch.config import DataConfig, RLStage, RunConfig
from jaxsearch.data.mixture import Mixture, QuestionsFrom, parse_questions
from jaxsearch.data.question import Question, flashrag_line

# The exact match of fewer questions says nothing: one of them is more than a tenth.
MIN_HELDOUT = 10
HELDOUT_FILE = "heldout.jsonl"


def question_files(config: RunConfig) -> dict[str, QuestionsFrom]:
    """The location of each RL stage's questions, by stage name; "" for data.source."""
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    return {stage.name: config.data.questions or stage.questions for stage in stages}


def own_file(config: RunConfig) -> QuestionsFrom:
    """The file of which a run holds out a share: that of the last RL stage.

    Held-out questions are judged by the task of this stage. "" if the config names a
    file of held-out questions, or the stage trains on the questions of data.source.
    """
    files = list(question_files(config).values())
    return files[-1] if files and not config.data.heldout else ""


def heldout_path(config: RunConfig) -> Path:
    """The file in a run's folder that lists the questions it holds out."""
    return Path(config.out) / HELDOUT_FILE


def is_heldout_file(name: str) -> bool:
    """Whether `record_heldout` writes, or keeps, a file of this name."""
    is_kept = re.fullmatch(rf"{re.escape(HELDOUT_FILE)}\.\d+", name)
    return (
        name == HELDOUT_FILE
        or bool(is_kept)
        or json_lines.is_temporary(name, HELDOUT_FILE)
    )


def reads_heldout_path(config: RunConfig) -> bool:
    """Whether the file at `heldout_path` is one of the config's question files."""
    paths: list[str] = []
    for given in (config.data.heldout, *question_files(config).values()):
        one = parse_questions(given) if isinstance(given, str) else given
        is_mixed = isinstance(one, Mixture)
        paths += [source.path for source in one.sources] if is_mixed else [one]
    return heldout_path(config).resolve() in [Path(path).resolve() for path in paths]


def has_started(config: RunConfig) -> bool:
    """Whether the config's folder holds a run already."""
    return (Path(config.out) / "config.json").is_file()


def own_heldout(
    config: RunConfig,
    questions: Sequence[Question],
    read: Callable[[Path], list[Question]],
) -> list[Question]:
    """The questions that a run holds out of its own, in random order; may be empty.

    Args:
      config: the run's config, whose folder may hold the run already. Then its
        questions are those recorded there, even if the file has changed.
      questions: all questions of `own_file`.
      read: reads a file of questions.
    """
    path = heldout_path(config)
    if not has_started(config):
        return hold_out(questions, config.data)
    return read(path) if config.data.heldout_share and path.is_file() else []


def hold_out(questions: Sequence[Question], data: DataConfig) -> list[Question]:
    """A share of the questions, in an order that depends on their texts alone.

    So runs with other seeds, and all processes of a run, hold out the same ones.
    Questions with the same text stay together.
    """
    by_text: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_text[_text_key(question)].append(question)
    if not is_enough(len(by_text), data):
        return []
    texts = sorted(by_text, key=lambda text: hashlib.sha256(text.encode()).digest())
    chosen = texts[: min(round(data.heldout_share * len(by_text)), data.max_heldout)]
    return [question for text in chosen for question in by_text[text]]


def is_enough(num_questions: int, data: DataConfig) -> bool:
    """Whether a file has so many questions that a share of them measures something."""
    return round(data.heldout_share * num_questions) >= MIN_HELDOUT


def without(
    questions: dict[str, list[Question]], heldout: Iterable[Question]
) -> dict[str, list[Question]]:
    """The questions of each stage without those whose text is held out.

    Stages that share a list share the remaining one too.

    Raises:
      ValueError: if a stage has no other question.
    """
    texts = {_text_key(question) for question in heldout}
    rest: dict[int, list[Question]] = {}
    for name, those in questions.items():
        if id(those) in rest:
            continue
        kept = [question for question in those if _text_key(question) not in texts]
        if those and not kept:
            raise ValueError(
                f"all questions of stage {name!r} are held out; give a file of "
                "held-out questions with --data.heldout"
            )
        rest[id(those)] = kept
    return {name: rest[id(those)] for name, those in questions.items()}


def record_heldout(config: RunConfig, heldout: Sequence[Question]) -> str:
    """Writes the questions that a new run holds out to its folder.

    A start that was interrupted may have left others there, if its settings or its
    file of questions were others. They get another name.

    Returns:
      The line that tells the user; "" if there were no others.
    """
    if has_started(config):
        return ""
    path, said = heldout_path(config), ""
    content = json_lines.encode_lines(map(flashrag_line, heldout))
    if path.is_file() and path.read_bytes() != content:
        numbered = (path.with_name(f"{HELDOUT_FILE}.{n}") for n in itertools.count(1))
        kept = next(one for one in numbered if not one.exists())
        path.rename(kept)
        said = f"the held-out questions of an interrupted start are kept in {kept}"
    if heldout and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        json_lines.replace_file(path, content)
    return said


def _text_key(question: Question) -> str:
    """The text of a question without its spelling of case and white space."""
    return " ".join(question.question.casefold().split())
