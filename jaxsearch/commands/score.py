"""`jaxsearch score`: judges saved trajectories or predictions."""

import argparse
from typing import Any

from jaxsearch.commands.command import Command

_DESCRIPTION = """\
Judges each line of a JSONL file and prints the means: n, mean_reward, em, f1, cover_em.

A line has golden_answers and one of
  response    the text after the prompt, with "ended": true or false
  segments    [{"text", "is_policy"}]; only the policy's segments are judged
  prediction  an answer, for em, f1 and cover_em only

and, if needed,
  ended       whether the policy ended the text itself; most tasks need it
  opened      a tag that the prompt has written for the policy, such as <think>
  task        the task of the line; --task skips lines of other tasks
  reward      the line was judged before: its text is judged again, not its prediction

These are the lines of `predictions.jsonl`, which `jaxsearch eval` writes.
"""
_TASKS = """\
tasks (prompt format, reward and normaliser of one system):
  research                   ReSearch, as in its code
  research_paper             ReSearch, equation 2 of its paper
  r1_searcher_stage1         R1-Searcher, the paper's first stage
  r1_searcher_stage2         R1-Searcher, the paper's second stage
  r1_searcher_qwen           R1-Searcher's code for Qwen
  r1_searcher_llama_stage1   R1-Searcher's code for Llama, first stage
  r1_searcher_llama_stage2   R1-Searcher's code for Llama, second stage
  search_r1                  Search-R1
  search_r1_format           Search-R1 with its format reward
  direct                     baseline: an answer without a search
  retrieve_then_read         baseline: one search, with the question
  iterative                  baseline: a search with each sentence of the model
  quickstart                 ReSearch's reward with the quickstart's prompts
  quickstart_r1_searcher_stage1, quickstart_r1_searcher_stage2
                             R1-Searcher's two stages with the quickstart's prompts
  package.module:NAME, path/to/file.py:NAME
                             a custom Task
  auto                       the task that each line names
"""


_EXAMPLES = """
examples:
  jaxsearch score --task research results/predictions.jsonl
  jaxsearch score --task auto lines.jsonl --out judged.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _TASKS + _EXAMPLES
    parser.add_argument(
        "--task",
        "--recipe",
        required=True,
        metavar="NAME",
        help="task that judges, see below; lines that name another one are skipped",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write each line with its reward and metrics; the file must not exist",
    )
    parser.add_argument(
        "file", metavar="FILE.jsonl", help="file of lines to judge; may be .gz"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.rewards.score import score_file

    return score_file(args.file, args.task, args.out)


COMMAND = Command(
    summary="judge saved trajectories or predictions",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
