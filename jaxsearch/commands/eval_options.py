"""Options of `jaxsearch eval`: which questions are asked, and how they are answered."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxsearch.evaluation.options import AnswerOptions
    from jaxsearch.run.options import RunOptions


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --questions and the options that choose some of them."""
    parser.add_argument(
        "--questions",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="prepared sets (`jaxsearch data --help`) or files of questions. Each file "
        "is a set, named after the file or by NAME=FILE; all sets share one queue. A "
        "file is JSONL or CSV with question and golden_answers (may be .gz), "
        "ReSearch's or Search-R1's parquet, or a file of HotpotQA, 2WikiMultiHopQA, "
        "MuSiQue, NQ-open, TriviaQA or PopQA; it may be in a data set on the Hugging "
        "Face Hub, hf://OWNER/NAME[/FILE][@REVISION] (default: the run's held-out "
        "questions)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="evaluate only the first N questions of each set (default: 0, all)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="evaluate N random questions of each set (default: 0, all)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="seed of the random questions (default: 0)",
    )
    parser.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip malformed rows of the files; otherwise they are an error",
    )
    parser.add_argument(
        "--drop-long-prompts",
        action="store_true",
        help="skip questions whose prompts exceed the budget",
    )


def add_answer_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of answers: their number, sampling, searches and failures."""
    parser.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="K",
        help="answers per question (default: 1)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="sampling temperature (default: 0, greedy; 1 with --samples)",
    )
    parser.add_argument(
        "--num-passages",
        type=int,
        default=0,
        metavar="K",
        help="passages per search (default: the run's; 5 for a Hugging Face model)",
    )
    parser.add_argument(
        "--max-searches",
        type=int,
        metavar="N",
        help="searches per answer; a further one ends it (default: the run's; 16 for a "
        "Hugging Face model)",
    )
    parser.add_argument(
        "--logprobs",
        action="store_true",
        help="keep the token ids and their log-probs in predictions.jsonl",
    )
    parser.add_argument(
        "--allow-failures",
        type=int,
        metavar="N",
        help="number of answers that a model server may fail to give; with more, the "
        "exit status is 1 (default: 0)",
    )


def run_options(args: argparse.Namespace) -> "RunOptions":
    """The options that change the run of the policy."""
    from jaxsearch.run.options import RunOptions

    return RunOptions(
        task=args.task,
        questions=tuple(filter(None, args.questions or ())),
        index=args.index,
        limit=args.limit,
        skip_bad_rows=args.skip_bad_rows,
        drop_long_prompts=args.drop_long_prompts,
        prompt_template=args.prompt_template,
        num_passages=args.num_passages,
        max_searches=args.max_searches,
    )


def answer_options(args: argparse.Namespace) -> "AnswerOptions":
    """The options of the answers.

    Raises:
      ValueError: if one is impossible, or has no effect.
    """
    from jaxsearch.evaluation.options import AnswerOptions

    if args.allow_failures is not None and not args.model_url:
        raise ValueError("--allow-failures belongs to --model-url, which is missing")
    return AnswerOptions(
        num_samples=args.samples,
        temperature=args.temperature,
        keeps_tokens=args.logprobs,
        allowed_failures=args.allow_failures or 0,
    )
