"""The last lines of `jaxsearch train`: results, the report, and what to try next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch.commands.invocation import command
from jaxsearch.config import RunConfig
from jaxsearch.evaluation.before_after import before_and_after
from jaxsearch.models.hub import PACKAGED

# The config and tokenizer to start from after a run whose tokenizer knows only the
# words of its own data.
_REAL_CONFIG = "hotpotqa_real"
_REAL_TOKENIZER = "Qwen/Qwen2.5-0.5B"


def closing_lines(
    config: RunConfig, config_file: str, result: Mapping[str, Any], width: int
) -> list[str]:
    """Exact match before and after RL, the path of the report, and two commands.

    Args:
      config: the run's config.
      config_file: its file or name, as the user gave it.
      result: what `train` returned.
      width: columns at which commands are broken.
    """
    run = Path(config.out)
    lines = ["", *before_and_after(run), ""]
    lines.append(f"{result['minutes']:.1f} minutes; report: {run / 'report.html'}")
    if "question" in result:
        words = ("ask", "--model", str(run), result["question"])
        lines += ["", "ask it a question:", *command(*words, width=width)]
    if config.data.questions:
        return lines
    own = _own_data(config, config_file)
    lines += ["", "train on your own data:", *command(*own, width=width)]
    lines += [
        'lines of questions.jsonl: {"id", "question",',
        '    "golden_answers"}; of corpus.jsonl: {"id", "contents"}',
    ]
    return lines


def _own_data(config: RunConfig, config_file: str) -> list[str]:
    """The words of a command that trains on other questions and passages."""
    words = ["--data.questions", "questions.jsonl"]
    words += ["--retrieval.corpus", "corpus.jsonl", "--out", "runs/own"]
    if config.model.path and config.model.path not in PACKAGED:
        return ["train", config_file, "--model.path", config.model.path, *words]
    if config.model.tokenizer:
        tokenizer = config.model.tokenizer
        return ["train", config_file, "--model.tokenizer", tokenizer, *words]
    return ["train", _REAL_CONFIG, "--model.tokenizer", _REAL_TOKENIZER, *words]
