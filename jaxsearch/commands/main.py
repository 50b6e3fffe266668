"""The `jaxsearch` command: which words it takes, and which function they call."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_EPILOG = """\
first steps:
  jaxsearch train configs/quickstart.py         a tiny policy learns to search
  jaxsearch report runs/quickstart              its curves and trajectories as a page
  jaxsearch ask --model runs/quickstart "Who directed the film Bakfel?"
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxsearch",
        description="Language models that learn, by reinforcement alone, to search.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print it and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line"
        )
        return sub

    train = command("train", "run the stages of a config, or what is left of them")
    train.add_argument("config", help="Python file that defines `config`")
    train.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        help="--name value, nested with dots; `jaxsearch train CONFIG.py --help` "
        "lists them all",
    )

    plan = command("plan", "whether a run fits a machine, and what it costs there")
    plan.add_argument("config", help="as in train; of the model, config.json is enough")
    plan.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        help="--topology NAME compiles for TPUs elsewhere (v5e:4x4, v5p:4x4x4, "
        "v6e:8x8) or computes for GPUs (h200:8); without it, the devices that are "
        "here. --no-compile: arithmetic alone, in seconds. All else as in train",
    )

    evaluate = command("eval", "a policy on a set of questions")
    _model(evaluate)
    evaluate.add_argument("--questions", default="", help="file; a run has its own")
    evaluate.add_argument("--index", default="", help="folder; a run has its own")
    evaluate.add_argument(
        "--task", "--recipe", default="", help="as in `score`; a run's own"
    )
    evaluate.add_argument("--out", required=True, help="folder to write, new or empty")
    evaluate.add_argument("--limit", type=int, default=0, help="questions; 0: all")
    evaluate.add_argument(
        "--temperature", type=float, default=0.0, help="0 (the default) is greedy"
    )

    ask = command("ask", "a policy on one question, as it thinks and searches")
    _model(ask)
    ask.add_argument("--index", default="", help="folder; a run has its own")
    ask.add_argument(
        "--task", "--recipe", default="", help="as in `score`; a run's own"
    )
    ask.add_argument("question")

    _select_arguments(
        command("select", "training questions by how many tries a policy takes")
    )

    score = command("score", "rewards and metrics of saved trajectories")
    score.add_argument(
        "--task",
        "--recipe",
        required=True,
        help="research, research_paper, r1_searcher_stage1, r1_searcher_stage2, "
        "r1_searcher_qwen, r1_searcher_llama_stage1, r1_searcher_llama_stage2, "
        "search_r1, search_r1_format, quickstart, quickstart_r1_searcher_stage1 or "
        "quickstart_r1_searcher_stage2; package.module:NAME for one's own; "
        "auto: the recipe that each line names",
    )
    score.add_argument("--out", default=None, help="file to write, must not exist")
    score.add_argument("file", help="JSONL, .gz too")

    index = commands.add_parser("index", help="build, look into or check an index")
    actions = index.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, summary in (
        ("build", "a ScaNN index of a corpus"),
        ("search", "what an index finds for a query"),
        ("check", "recall against exact search, and latency"),
    ):
        sub = actions.add_parser(action, help=summary, description=summary)
        sub.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
        if action == "build":
            sub.add_argument("--corpus", required=True, help="JSONL or TSV, .gz too")
            sub.add_argument("--out", required=True, help="folder, must not exist")
            _encoder_arguments(sub)
        else:
            sub.add_argument("folder")
            sub.add_argument("-k", type=int, default=5, help="passages")
        if action == "search":
            sub.add_argument("query")

    _bench_arguments(commands)

    report = command("report", "a run as one HTML page")
    report.add_argument("run", help="the run's folder")

    export = command("export", "a run's policy as a Hugging Face folder")
    export.add_argument("run", help="the run's folder")
    export.add_argument("out", help="folder to write, new or empty")
    export.add_argument(
        "--adapter",
        action="store_true",
        help="only what LoRA has trained, as a PEFT adapter folder",
    )
    export.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="of weights; bfloat16 if not said, float32 for an adapter",
    )

    command("doctor", "what is installed, which devices, what is missing")
    return parser


_SELECT = """\
Rolls out every training question of a config until the policy is right, K times at
most, as its last RL stage would (temperature, recipe, index, budgets), and keeps those
that are neither too easy nor too hard for it: groups whose answers are all right, or
all wrong, teach nothing.

writes into --out:
  tries.jsonl     each question: the tries until one was right (null: none), searches
  selected.jsonl  the questions that are kept, for --data.questions
  counts.json     how many questions took how many tries, how many are kept
  calls.jsonl     what was rolled out; a command that was stopped goes on from it

Look first, then choose: without bounds all questions are kept, and counts.json shows
where to cut. The same command with bounds, into the same folder, rolls out nothing
again. R1-Searcher (arXiv:2503.05592) calls a question easy below 10 rollouts, medium
from 10 to 20, difficult above: with --tries 20, its medium is --min-tries 10
--max-tries 20, its difficult --min-tries 21. Right by default is what its tables count.

example:
  jaxsearch select configs/quickstart.py --model runs/quickstart --tries 8 \\
    --limit 200 --min-tries 2 --max-tries 8 --out chosen
  jaxsearch train configs/quickstart.py --data.questions chosen/selected.jsonl \\
    --out runs/chosen
"""


def _select_arguments(select: argparse.ArgumentParser) -> None:
    select.description = _SELECT
    select.formatter_class = argparse.RawDescriptionHelpFormatter
    # Whatever is not named here is an override of the config.
    select.usage = "jaxsearch select CONFIG.py --model MODEL --tries K [options]"
    select.allow_abbrev = False
    select.add_argument(
        "config",
        help="as in train, and so is every other --name value, nested with dots; its "
        "model gives way to --model",
    )
    select.add_argument(
        "--model", required=True, help="a run's folder, a Hugging Face folder or id"
    )
    select.add_argument(
        "--tries", type=int, required=True, metavar="K", help="rollouts at most"
    )
    select.add_argument(
        "--out", default="", help="folder; runs/<config name>-selection if not given"
    )
    select.add_argument(
        "--min-tries", type=int, default=1, metavar="N", help="keep from here; 1"
    )
    select.add_argument(
        "--max-tries",
        type=int,
        metavar="N",
        help="keep up to here; not given: what was never right too",
    )
    select.add_argument(
        "--right",
        default="cover_em",
        help="cover_em (the default: all words of a golden answer, in any order), em "
        "or f1, by the recipe's normaliser",
    )
    select.add_argument(
        "--at-least", type=float, default=1.0, help="of it, to be right; 1"
    )
    select.add_argument("--limit", type=int, default=0, help="questions; 0: all")


def _encoder_arguments(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--encoder",
        default="tfidf",
        help="tfidf (the default), or a folder or Hub id of a BERT encoder with "
        "safetensors (E5, BGE, GTE, MiniLM), or the encoder/ folder of an index",
    )
    build.add_argument("--dims", type=int, help="of TF-IDF vectors, 1024 unless given")
    neural = build.add_argument_group(
        "of a BERT encoder, where its own sentence-transformers files are silent or "
        "should not count"
    )
    neural.add_argument("--pooling", help="mean or cls: how tokens become a vector")
    neural.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="bring vectors to length 1, or leave them as they are",
    )
    neural.add_argument(
        "--query-prefix",
        metavar="TEXT",
        help="before each query, e.g. 'query: ' for E5; empty if nothing is said",
    )
    neural.add_argument(
        "--passage-prefix",
        metavar="TEXT",
        help="before each passage, e.g. 'passage: ' for E5; likewise",
    )
    neural.add_argument(
        "--dtype", help="of activations: float32 (the default) or bfloat16"
    )


def _bench_arguments(commands: argparse._SubParsersAction) -> None:
    bench = commands.add_parser("bench", help="measured speed beside its limit")
    benches = bench.add_subparsers(dest="action", metavar="ACTION", required=True)
    rollout = benches.add_parser(
        "rollout",
        help="scripted rollouts through the sampler",
        description="Scripted rollouts through the sampler, beside the time that their "
        "matrix products take at this machine's own rates, and beside other engines.",
    )
    rollout.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    rollout.add_argument(
        "--workload",
        default="search_rollout",
        help="file, or long_tail, even_turns, eight_searches, slow_retriever, "
        "search_rollout (the default), queued_rollout",
    )
    rollout.add_argument(
        "--repeats", type=int, default=3, help="runs; the median counts"
    )
    rollout.add_argument("--slots", type=int, help="in place of the workload's")
    rollout.add_argument(
        "--replicas",
        type=int,
        default=1,
        help="devices that share the rollouts, each with its own policy and slots",
    )
    rollout.add_argument(
        "--latency",
        type=float,
        help="seconds a search takes, in place of the workload's",
    )
    _peer_arguments(
        rollout,
        "transformers or tunix: run the same on it as well; may be given twice",
    )
    update = benches.add_parser(
        "update",
        help="one update on the finished rollouts of a workload",
        description="One update on the finished rollouts of a workload, beside the "
        "time that their matrix products take at this machine's own rates, and beside "
        "the same update in other engines.",
    )
    update.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    update.add_argument(
        "--workload", default="search_rollout", help="file, or a name as in rollout"
    )
    update.add_argument(
        "--max-tokens", type=int, default=3072, help="padded tokens of a microbatch"
    )
    update.add_argument(
        "--repeats", type=int, default=5, help="runs; the median counts"
    )
    _peer_arguments(
        update,
        "transformers: the same update with full logits in PyTorch as well",
    )
    load = benches.add_parser(
        "load",
        help="a Hugging Face folder into parameters",
        description="Loads a folder as its files have it and in float32, beside the "
        "rate at which the same files are read and copied.",
    )
    load.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    load.add_argument(
        "--model", default="", help="folder; none: one is made with random weights"
    )
    load.add_argument(
        "--gigabytes", type=float, default=3.0, help="size of a folder that is made"
    )
    load.add_argument("--repeats", type=int, default=3, help="runs; medians count")
    encode = benches.add_parser(
        "encode",
        help="texts through a BERT encoder",
        description="Texts of given lengths through a BERT encoder with random "
        "weights, beside the time that their matrix products take at this machine's "
        "own rates, and beside other engines.",
    )
    encode.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    encode.add_argument(
        "--workload",
        default="ragged_lengths",
        help="file, or equal_lengths, ragged_lengths (the default)",
    )
    encode.add_argument(
        "--repeats", type=int, default=5, help="runs; the median counts"
    )
    _peer_arguments(
        encode,
        "sentence-transformers: run the same on it as well",
    )


def _peer_arguments(bench: argparse.ArgumentParser, peers: str) -> None:
    bench.add_argument("--peer", action="append", default=[], help=peers)
    bench.add_argument(
        "--peer-python",
        action="append",
        default=[],
        help="Python of the environment that has the peer, one for each --peer",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, help="a run's folder, a Hugging Face folder or id"
    )
    parser.add_argument(
        "--prompt-template",
        default="",
        metavar="FILE",
        help="a prompt with {question} in it, in place of the recipe's: text, or chat "
        "messages in a file named *.json; a published checkpoint needs its own",
    )


# Imports happen inside: `jaxsearch --help` must not wait for jax.
def _train(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    processes.start()
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.overrides import overridden
    from jaxsearch.train import train

    # argparse hands everything after the config on, its own flag included.
    overrides = [word for word in args.overrides if word != "--json"]
    args.json = args.json or "--json" in args.overrides
    return train(overridden(read_config(args.config), overrides, args.config))


def _plan(args: argparse.Namespace) -> dict[str, Any]:
    own = argparse.ArgumentParser(prog="jaxsearch plan", allow_abbrev=False)
    own.add_argument("--topology")
    own.add_argument("--no-compile", action="store_true")
    own.add_argument("--json", action="store_true")
    # What it does not know is an override of the config.
    known, overrides = own.parse_known_args(args.overrides)
    args.json = args.json or known.json
    if known.topology:
        # Compiling for devices elsewhere needs none here, and must not take them.
        os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxsearch.plan.plan import plan
    from jaxsearch.plan.text import as_text
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.overrides import overridden

    config = overridden(read_config(args.config), overrides, args.config)
    result = plan(config, known.topology, is_compiled=not known.no_compile)
    if args.json:
        return result
    print(as_text(result))
    return {}


def _eval(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.evaluation.use import evaluate_to

    return evaluate_to(
        Path(args.out),
        model=args.model,
        questions=args.questions,
        index=args.index,
        task=args.task,
        limit=args.limit,
        temperature=args.temperature,
        prompt_template=args.prompt_template,
    )


def _ask(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.evaluation.use import ask

    return ask(
        args.question,
        model=args.model,
        index=args.index,
        task=args.task,
        prompt_template=args.prompt_template,
    )


def _select(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    processes.start()
    from jaxsearch.data.selection import Bounds
    from jaxsearch.evaluation.difficulty import Judgement, select_to
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.overrides import overridden

    bounds = Bounds(
        tries=args.tries, min_tries=args.min_tries, max_tries=args.max_tries
    )
    config = overridden(read_config(args.config), args.overrides, args.config)
    return select_to(
        Path(args.out or f"{config.out}-selection"),
        config,
        model=args.model,
        bounds=bounds,
        judgement=Judgement(right=args.right, at_least=args.at_least),
        limit=args.limit,
    )


def _score(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.rewards.score import score_file

    return score_file(args.file, args.task, args.out)


def _index(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.commands import index as index_command

    if args.action == "build":
        from jaxsearch.search.encoder_options import EncoderOptions

        options = EncoderOptions(
            pooling=args.pooling,
            is_normalised=args.normalize,
            query_prefix=args.query_prefix,
            passage_prefix=args.passage_prefix,
            dtype=args.dtype,
        )
        return index_command.build(
            corpus=args.corpus,
            encoder=args.encoder,
            options=options,
            out=args.out,
            dims=args.dims,
        )
    if args.action == "search":
        return index_command.search_once(args.folder, args.query, k=args.k)
    return index_command.check(args.folder, k=args.k)


def _bench(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "load":
        from jaxsearch.bench.load import bench_load

        return bench_load(args.model, gigabytes=args.gigabytes, repeats=args.repeats)
    if len(args.peer) != len(args.peer_python):
        raise ValueError("give one --peer-python for each --peer, in the same order")
    peers = dict(zip(args.peer, args.peer_python, strict=True))
    if args.action == "encode":
        from jaxsearch.bench.encode import bench_encode

        return bench_encode(args.workload, repeats=args.repeats, peers=peers)
    if args.action == "update":
        from jaxsearch.bench.update import bench_update

        return bench_update(
            args.workload,
            max_tokens=args.max_tokens,
            repeats=args.repeats,
            peers=peers,
        )
    from jaxsearch.bench.rollout import bench_rollout

    return bench_rollout(
        args.workload,
        repeats=args.repeats,
        slots=args.slots,
        latency=args.latency,
        replicas=args.replicas,
        peers=peers,
    )


def _report(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.report.write_report import write_report

    return {"report": str(write_report(Path(args.run)))}


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.evaluation.use import export_run

    dtype = args.dtype or ("float32" if args.adapter else "bfloat16")
    return export_run(
        Path(args.run), Path(args.out), dtype=dtype, only_adapter=args.adapter
    )


def _doctor(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.commands.doctor import examine

    return examine()


_COMMANDS = {
    "train": _train,
    "plan": _plan,
    "eval": _eval,
    "ask": _ask,
    "select": _select,
    "score": _score,
    "index": _index,
    "bench": _bench,
    "report": _report,
    "export": _export,
    "doctor": _doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Status 0; 1: it failed; 2: bad usage or bad input."""
    # Otherwise transformers says at every start that it has no PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if args.command == "select":
        args.overrides = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.version:
        from jaxsearch import __version__

        print(f"jaxsearch {__version__}")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    status = None
    try:
        status = _carried_out(args)
    finally:
        if status != 0 and "jaxsearch.processes" in sys.modules:
            from jaxsearch import processes

            processes.end(status)
    return status


def _carried_out(args: argparse.Namespace) -> int:
    try:
        result = _COMMANDS[args.command](args)
    except (ValueError, OSError) as error:
        if not _is_ours(error):
            raise
        print(f"jaxsearch {args.command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not _is_ours(error):
            raise
        print(f"jaxsearch {args.command}: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"jaxsearch {args.command}: interrupted; the same command goes on from "
            "the last checkpoint",
            file=sys.stderr,
        )
        return 130
    _show(result, args.json)
    return 0


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
        return
    for key, value in result.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{key:>24}  {text}")


def _is_ours(error: BaseException) -> bool:
    """Whether this package raised it on purpose: then its text is for the user.

    The same types from inside a library are defects, and keep their traceback.
    """
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return True
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return (
        Path(raised_in).is_relative_to(Path(__file__).parents[1]) or "tyro" in raised_in
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
