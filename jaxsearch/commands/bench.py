"""`jaxsearch bench`: measures speed, compared with the roofline and other engines."""

import argparse
from typing import Any

from jaxsearch.commands.command import Command, add_json_argument
from jaxsearch.commands.help_text import HelpFormatter

_DESCRIPTION = """\
Measures one part of the system on a workload and prints its speed, the roofline (the
time of its matrix products at this machine's measured rates) and, with --peer, the
speed of other engines on the same workload. Figures are medians over the repeats.
"""
_WORKLOADS = (
    "JSON file, or one of long_tail, even_turns, eight_searches, slow_retriever, "
    "search_rollout, queued_rollout, quickstart (default: search_rollout)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch bench rollout --json
  jaxsearch bench update --workload long_tail --repeats 3
  jaxsearch bench rollout --peer transformers --peer-python ~/envs/torch/bin/python
  jaxsearch bench retrieval --url http://127.0.0.1:8000 --clients 64 --seconds 20
  jaxsearch bench retrieval --index indexes/wiki --json
"""
    benches = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def bench(action: str, summary: str, repeats: int = 0) -> argparse.ArgumentParser:
        sub = benches.add_parser(
            action, help=summary, description=summary, formatter_class=HelpFormatter
        )
        add_json_argument(sub)
        if repeats:
            sub.add_argument(
                "--repeats",
                type=int,
                default=repeats,
                metavar="N",
                help=f"measured runs (default: {repeats})",
            )
        return sub

    _add_rollout(bench("rollout", "scripted rollouts through the sampler", 3))
    _add_update(bench("update", "one update on the rollouts of a workload", 5))
    _add_load(bench("load", "loading a Hugging Face folder into parameters", 3))
    _add_encode(bench("encode", "encoding texts with a BERT encoder", 5))
    _add_retrieval(bench("retrieval", "an index, or a search server under load"))


def _add_rollout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workload", default="search_rollout", help=_WORKLOADS)
    parser.add_argument(
        "--slots", type=int, metavar="N", help="slots (default: the workload's)"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="devices that share the rollouts, each with a copy of the policy and a "
        "set of slots (default: 1)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        metavar="S",
        help="seconds per search (default: the workload's)",
    )
    _add_peers(parser, "transformers or tunix")


def _add_update(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workload", default="search_rollout", help=_WORKLOADS)
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=3072,
        metavar="N",
        help="padded tokens per microbatch (default: 3072)",
    )
    _add_peers(parser, "transformers, with full logits in PyTorch")


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="",
        metavar="DIR",
        help="folder to load (default: a temporary one with random weights)",
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=3.0,
        metavar="GB",
        help="size of the temporary folder (default: 3)",
    )


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workload",
        default="ragged_lengths",
        help="JSON file, or equal_lengths or ragged_lengths (default: ragged_lengths)",
    )
    _add_peers(parser, "sentence-transformers")


def _add_retrieval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        default="",
        metavar="URL",
        help="server of yours, http://HOST:PORT, or several separated by commas "
        "(default: none, which measures --index in this process, compared with its "
        "limit)",
    )
    parser.add_argument(
        "--index",
        default="",
        metavar="DIR",
        help="folder of an index. With --url, that of the server: queries are drawn "
        "from it, and its rate in this process is measured too. Without --url, the "
        "index to measure",
    )
    for name, kind, default, text in (
        ("clients", int, 64, "clients that ask at the same time"),
        ("seconds", float, 20.0, "how long they ask"),
        ("queries-per-request", int, 1, "queries in a request"),
        ("k", int, 5, "passages per query"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{text} (default: {default:g})",
        )
    parser.add_argument(
        "--dialect",
        choices=("auto", "research", "search_r1", "r1_searcher"),
        default="auto",
        help="dialect of the server (default: auto, which asks the server)",
    )


def _add_peers(parser: argparse.ArgumentParser, peers: str) -> None:
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME",
        help=f"also measure another engine on the same workload: {peers}; may be "
        "repeated",
    )
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="PATH",
        help="Python interpreter of an environment with the peer, one per --peer",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "load":
        from jaxsearch.bench.load import bench_load

        return bench_load(args.model, gigabytes=args.gigabytes, repeats=args.repeats)
    if args.action == "retrieval":
        from jaxsearch.bench.retrieval import Load, bench_retrieval

        if not args.url:
            if not args.index:
                raise ValueError("give --url of a server, or --index of a folder")
            from jaxsearch.bench.retrieval_limit import bench_index

            return bench_index(args.index, k=args.k)
        load = Load(
            clients=args.clients,
            seconds=args.seconds,
            queries_per_request=args.queries_per_request,
            k=args.k,
        )
        return bench_retrieval(args.url, load, index=args.index, dialect=args.dialect)
    if len(args.peer) != len(args.peer_python):
        raise ValueError(
            f"got {len(args.peer)} --peer and {len(args.peer_python)} --peer-python; "
            "give one --peer-python for each --peer, in the same order"
        )
    peers = dict(zip(args.peer, args.peer_python, strict=True))
    if len(peers) < len(args.peer):
        raise ValueError(
            f"got --peer {' '.join(args.peer)}; give each engine once, and measure it "
            "with another Python in another call"
        )
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


COMMAND = Command(
    summary="measure speed, compared with the roofline and other engines",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
