"""Builds the API's documents, from docstrings, as HTML with a search field.

    python launch/docs.py [--out build/docs] [--open | --serve]

Needs the extra `docs` (`pip install -e ".[docs]"`). Warnings, and references in
docstrings that lead nowhere, are errors.
"""

import argparse
import functools
import http.server
import importlib
import re
import sys
import warnings
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The public API, and the modules with the contracts of what a user may replace.
MODULES = (
    "jaxsearch",
    "jaxsearch.protocol.contract",
    "jaxsearch.rewards.contract",
    "jaxsearch.rewards.own",
    "jaxsearch.rl.credit",
    "jaxsearch.rl.aggregation",
    "jaxsearch.search.index",
    "jaxsearch.search.encoder",
    "jaxsearch.env.environment",
    "jaxsearch.env.tools",
    "jaxsearch.models.kernels",
    "jaxsearch.models.families.family",
    "jaxsearch.train",
)
# `a.b` or `a.b.c` in a docstring: a module of the package, or a name in one.
_REFERENCE = re.compile(r"(?<!`)`((?:[a-z]\w*\.)+\w+)(?:\(\))?`(?!`)")
_LINK = re.compile(r'href="([^":$]*)"')


def main() -> int:
    """Builds the documents.

    Returns:
      The exit status: 0, or 1 if a reference leads nowhere.
    """
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n\n")[2]
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build/docs", help="folder to write"
    )
    show = parser.add_mutually_exclusive_group()
    show.add_argument(
        "--open", action="store_true", help="open the first page in a browser"
    )
    show.add_argument(
        "--serve", action="store_true", help="serve the folder on http://localhost:8080"
    )
    args = parser.parse_args()
    try:
        importlib.import_module("pdoc")
    except ImportError:
        print('pdoc is missing: run `pip install -e ".[docs]"`', file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    build(args.out)
    faults = [*broken_references(), *broken_links(args.out)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    index = (args.out / "index.html").resolve()
    print(index)
    if args.open:
        webbrowser.open(index.as_uri())
    if args.serve:
        serve(args.out)
    return 0


def build(out: Path) -> None:
    """Writes one page for each of MODULES, an index and the search's data."""
    import pdoc

    pdoc.render.configure(docformat="google", search=True, show_source=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of other packages, when they are imported.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        api, *contracts = MODULES
        # pdoc would add every module below `jaxsearch`.
        pdoc.pdoc(api, f"!{api}[.].*", *contracts, output_directory=out)


def broken_references() -> Iterator[str]:
    """Names in backquotes, in the docstrings of MODULES, that do not exist."""
    import pdoc.doc

    for name in MODULES:
        module = pdoc.doc.Module(importlib.import_module(name))
        for member in _with_members(module):
            for reference in _REFERENCE.findall(member.docstring):
                if not _exists(reference, name, member):
                    yield f"{member.fullname}: there is no {reference}"


def _with_members(doc: Any) -> Iterator[Any]:
    yield doc
    for member in doc.own_members if hasattr(doc, "own_members") else ():
        if member.kind != "module":
            yield from _with_members(member)


def _exists(reference: str, module: str, member: Any) -> bool:
    """Whether a dotted name is one of the package, or begins with a parameter."""
    first = reference.partition(".")[0]
    own, package = member.taken_from[0], module.rpartition(".")[0]
    owners = ["jaxsearch", module, package, own, f"{own}.{member.taken_from[1]}"]
    places = ["", *(f"{owner.strip('.')}." for owner in owners if owner.strip("."))]
    if any(_resolves(place + reference) for place in places):
        return True
    # A file, or an attribute of something that is no name of the package.
    return not any(_resolves(place + first) for place in places)


@functools.cache
def _resolves(name: str) -> bool:
    words = name.split(".")
    for number in range(len(words), 0, -1):
        try:
            value = importlib.import_module(".".join(words[:number]))
        except ImportError:
            continue
        for word in words[number:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if word not in fields and not hasattr(value, word):
                return False
            value = getattr(value, word, None)
        return True
    return False


def broken_links(out: Path) -> Iterator[str]:
    """Links of the pages to pages or places in them that do not exist."""
    pages = {path.resolve(): path.read_text() for path in out.rglob("*.html")}
    for path, text in pages.items():
        for target in _LINK.findall(text):
            file, _, anchor = target.partition("#")
            other = (path.parent / file).resolve() if file else path
            if not other.exists() or (
                anchor and other in pages and f'id="{anchor}"' not in pages[other]
            ):
                yield f"{path}: {target} leads nowhere"


def serve(out: Path) -> None:
    """Serves the folder on this machine until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=out)
    with http.server.ThreadingHTTPServer(("localhost", 8080), handler) as server:
        print("http://localhost:8080, until Ctrl-C", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(main())
