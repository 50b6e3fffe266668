"""Load on `jaxsearch serve`, compared with its targets: one command, one table.

    python launch/serve_load.py --work /tmp/serve_load

Builds the two indexes in the folder of --work unless they are there (about two minutes
for the large one), starts each server that it needs, and prints a row per target. It
takes about five minutes more on two idle cores; a busy machine gives no figures.
Nothing is tried again. The exit status is 1 if a target is missed. --seconds 2 and
--requests 6000 make a short trial of it.

The large index has the passages of --data, a folder with corpus/*.jsonl.gz and
questions/*.jsonl.gz; the small one those of the quickstart.
"""

import argparse
import gzip
import json
import re
import sys
from pathlib import Path

from pool_target import pool
from serve_targets import (
    ROOT,
    Setup,
    batches,
    large_index,
    memory,
    single_queries,
    tests,
)


def built(work: Path, data: Path) -> tuple[Path, Path]:
    """The folders of the large and the small index, which are built if missing."""
    from configs.quickstart import config
    from jaxsearch.search.build import build_index_folder
    from jaxsearch.search.encoders import encoder_named
    from jaxsearch.search.indexes import build_index

    large, small, corpus = work / "large", work / "small", work / "corpus.jsonl"
    if not large.exists():
        with corpus.open("wb") as lines:
            for path in sorted((data / "corpus").glob("*.jsonl.gz")):
                lines.write(gzip.decompress(path.read_bytes()))
        build_index_folder(corpus=str(corpus), encoder="tfidf", out=str(large))
    if not small.exists():
        passages = config.data.source(work, config.seed).passages
        encoder = encoder_named("tfidf", passages, dims=config.retrieval.dims)
        build_index(passages, encoder).save(small)
    return large, small


def questions_of(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["question"] for line in lines]


def titles_of(folder: Path) -> list[str]:
    """The titles of an index's passages, as queries."""
    from jaxsearch.search.indexes import load_index

    return [re.sub(r"\W+", " ", one.title) for one in load_index(folder).passages]


PARTS = {
    "batches": batches,
    "single": single_queries,
    "large": large_index,
    "memory": memory,
    "pool": pool,
    "tests": tests,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of indexes")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=[*PARTS])
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    large, small = built(args.work, args.data)
    setup = Setup(
        large=large,
        small=small,
        asked=questions_of(args.data / "questions" / "hotpotqa_dev.jsonl.gz"),
        small_asked=titles_of(small),
        seconds=args.seconds,
        num_requests=args.requests,
    )
    print("| target | measured | met |\n|---|---|---|", flush=True)
    is_met = True
    for part in args.only:
        for row in PARTS[part](setup):
            is_met &= row.is_met
            met = "yes" if row.is_met else "**no**"
            print(f"| {row.target} | {row.found} | {met} |", flush=True)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
