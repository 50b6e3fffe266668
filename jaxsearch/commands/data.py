"""`jaxsearch data`: prepares, describes and samples sets of questions."""

import argparse
import os
from typing import Any

from jaxsearch.commands.command import Command, add_json_argument
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.visible import visible

_DESCRIPTION = """\
Prepares sets of questions once, so that they can be used by name in any folder: in
`jaxsearch train --data.questions`, `jaxsearch eval --questions`, and wherever else a
file of questions is accepted. Known sets:

  hotpotqa   train, dev        HotpotQA
  2wiki      train, dev        2WikiMultiHopQA
  musique    train, dev        MuSiQue
  bamboogle  test              Bamboogle
  nq         train, dev, test  Natural Questions (open)
  triviaqa   train, dev, test  TriviaQA
  popqa      test              PopQA

Without a split, a name means train in training, and the split of the papers' tables in
an evaluation: test, or dev if there is no test split. hotpotqa/dev selects a split. A
mixture draws from several sets in proportion to weights: --data.questions
hotpotqa=2,2wiki=1.
"""
_PREPARE = """\
Reads the questions of a set and stores them in TensorFlow Datasets' ArrayRecord format,
with the citation, the licence, and the SHA-256 of the source file. Without --from, a
known set is downloaded from FlashRAG's data repository on the Hugging Face Hub, and the
commit is recorded. Running the command again checks that nothing has changed.

HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE work as usual. Sets are kept in JAXSEARCH_DATA,
or ~/.cache/jaxsearch/data.
"""
_PREPARE_EPILOG = """\
examples:
  jaxsearch data prepare hotpotqa
  jaxsearch data prepare nq --split test
  jaxsearch data prepare hotpotqa --from hotpotqa_dev.jsonl.gz
  jaxsearch data prepare mine --from questions.csv --split dev
"""
_DESCRIBE = """\
Shows the splits of a set with their number of questions, origin, licence and citation.
NAME may also be a file or a mixture. Without NAME, lists the known and the prepared
sets.
"""
_SAMPLE = """\
Shows random questions of a prepared set or a file, with their golden answers and
metadata. The same seed gives the same questions.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch data prepare hotpotqa
  jaxsearch data prepare mine --from questions.jsonl
  jaxsearch data describe hotpotqa
  jaxsearch data sample hotpotqa/dev -n 3
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_prepare(actions)
    describe = actions.add_parser(
        "describe",
        help="show the contents and origin of a set",
        description=_DESCRIBE,
        formatter_class=HelpFormatter,
    )
    describe.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAME",
        help="a set, a split such as hotpotqa/dev, a file, or a mixture",
    )
    add_json_argument(describe)
    sample = actions.add_parser(
        "sample",
        help="show some questions of a set",
        description=_SAMPLE,
        formatter_class=HelpFormatter,
    )
    sample.add_argument(
        "name", metavar="NAME", help="a set, a split such as hotpotqa/dev, or a file"
    )
    sample.add_argument(
        "-n", type=int, default=3, metavar="N", help="number of questions (default: 3)"
    )
    sample.add_argument("--seed", type=int, default=0, help="default: 0")
    add_json_argument(sample)


def _add_prepare(actions: Any) -> None:
    prepare = actions.add_parser(
        "prepare",
        help="store a set, from the Hub or from a file",
        description=_PREPARE,
        epilog=_PREPARE_EPILOG,
        formatter_class=HelpFormatter,
    )
    prepare.add_argument(
        "name", metavar="NAME", help="a known set, or a new name for a set of your own"
    )
    prepare.add_argument(
        "--from",
        dest="file",
        default="",
        metavar="FILE",
        help="file of questions in any supported format, or "
        "hf://OWNER/NAME/FILE[@REVISION] (default: FlashRAG's file of a known set)",
    )
    prepare.add_argument(
        "--split",
        default="",
        metavar="S",
        help="the split (default: with --from, the split in the name of FILE, or "
        "train if it has none; otherwise all splits)",
    )
    prepare.add_argument(
        "--revision",
        default="",
        metavar="REV",
        help="commit, branch or tag of FlashRAG's repository (default: the recorded "
        "commit of a prepared set, otherwise the newest)",
    )
    prepare.add_argument(
        "--replace",
        action="store_true",
        help="replace a split that was prepared from another file or is damaged",
    )
    prepare.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip malformed rows; otherwise they are an error",
    )
    add_json_argument(prepare)


def run(args: argparse.Namespace) -> dict[str, Any]:
    # No accelerator is needed, and another process may be using it.
    os.environ["JAX_PLATFORMS"] = "cpu"
    action = {"prepare": _prepare, "describe": _describe, "sample": _sample}
    found = action[args.action](args)
    return found if args.json else {}


def _prepare(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.data.prepare import prepare_set

    found = prepare_set(
        args.name,
        args.file,
        split=args.split,
        revision=args.revision,
        replace=args.replace,
        skip_bad_rows=args.skip_bad_rows,
    )
    splits = {
        str(one): {
            "questions": one.record.num_questions,
            "from": one.record.origin.address,
            "sha256": one.record.origin.sha256,
            "folder": str(one.folder),
        }
        for one in found
    }
    if not args.json:
        _print_fields(splits)
    return {"prepared": splits}


def _describe(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.data.set_summary import describe, list_sets

    found = describe(args.name) if args.name else list_sets()["sets"]
    if not args.json:
        _print_fields(found)
        if found.get("prepared") == []:
            print(f"\nprepare it with `jaxsearch data prepare {args.name}`")
    return found


def _sample(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.data.question import flashrag_line
    from jaxsearch.data.set_summary import sample

    lines = [
        flashrag_line(question)
        for question in sample(args.name, args.n, seed=args.seed)
    ]
    if not args.json:
        for line in lines:
            answers = " | ".join(line["golden_answers"])
            shown = {"question": line["question"], "answers": answers}
            # Columns of the user's may have the same names.
            others = {
                f"metadata {name}" if name in shown else name: value
                for name, value in line["metadata"].items()
            }
            _print_fields({line["id"]: shown | others})
    return {"questions": lines}


def _print_fields(fields: dict[str, Any], indent: str = "") -> None:
    """Prints nested fields; those of a split or a question are indented."""
    for name, value in fields.items():
        if isinstance(value, dict) and not all(map(_is_count, value.values())):
            print(visible(f"{indent}{name}"))
            _print_fields(value, f"{indent}  ")
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count}" for key, count in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, float):
            value = f"{value:.4g}"
        print(visible(f"{indent}{name.replace('_', ' '):<24} {value}"))


def _is_count(value: object) -> bool:
    return isinstance(value, int)


COMMAND = Command(
    summary="prepare, describe and show sets of questions",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
