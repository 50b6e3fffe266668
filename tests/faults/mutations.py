"""Contents that a file might have instead of its own, and a reader that meets them."""

import copy
import gzip
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from jaxsearch.commands.command_line import _is_ours
from jaxsearch.web.page_text import _PROGRAM

MAX_S = 5.0
# A reader that waits is interrupted, but not one that is slow on a busy machine.
_INTERRUPT_S = 120.0
# Of memory, beyond which reserving it fails.
_MAX_MORE_BYTES = 6 * 2**30
_MAX_MESSAGE = 6000
# The program that parses pages, which is started again after pages that end it.
_PARSER = str(_PROGRAM)
# Names that would show in an event of the interpreter if a reader obeyed them.
PLANTED = "planted_by_the_fuzzing"
JUNK = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    10**12,
    10**400,
    10**5000,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    f"/{PLANTED}",
    "\ud800",
    "\0",
    "\x1b[2J",
    "a:b",
    "jaxsearch.run:x",
    "os:system",
    f"{PLANTED}:run",
    [],
    {},
    [[]],
    [None, 1, "x"],
    {"a": 1},
    {"function": 3},
    {"function": "os:system", "keywords": {"command": f"touch {PLANTED}"}},
    {"object": None, "fields": 1},
    {"kind": "none"},
    "y" * 10_000,
    "deep",
)
BYTES = (
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"null",
    b"[]",
    b'"x"',
    b"3",
    b"{",
    b"[" * 100_000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 100_000,
    b"1" * 10_000,
    b"\x00" * 100,
    b"NaN",
    b"\x80\x04c" + PLANTED.encode() + b"\nrun\n.",
)
_TOKENS = (
    b'"',
    b"\\ud800",
    b"1" * 5000,
    b"[" * 2000,
    b"\x00",
    b"\xff",
    b"\r\n",
    b"\t",
    b"NaN",
    b"1e999",
    b"-",
    b"\xe2\x80\xa8",
)


class _PlantedError(BaseException):
    """A reader did what the content of a file said."""


class _HangError(BaseException):
    """A reader did not end."""


def _nodes(value: Any) -> Iterator[tuple]:
    """The paths of all values inside of a JSON value, but for those very deep in it."""
    todo: list[tuple[tuple, Any]] = [((), value)]
    while todo:
        path, one = todo.pop()
        yield path
        items = one.items() if isinstance(one, dict) else ()
        items = enumerate(one) if isinstance(one, list) else items
        if len(path) < 20:
            todo += [((*path, key), item) for key, item in items]


def _junk(rng: random.Random) -> Any:
    value = copy.deepcopy(rng.choice(JUNK))
    if value == "deep":
        value = 1
        for _ in range(rng.choice([20, 90, 200, 700])):
            value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def mutated(value: Any, rng: random.Random) -> Any:
    """The value with some nodes replaced, removed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        path = rng.choice(list(_nodes(value)))
        if not path:
            if rng.random() < 0.2:
                return _junk(rng)
            continue
        place = value
        for key in path[:-1]:
            place = place[key]
        last, action = path[-1], rng.randrange(6)
        if action == 0:
            del place[last]
        elif action == 1 and isinstance(place, dict):
            place[rng.choice(["", "x", "../y", f"{last}z"])] = _junk(rng)
        elif action == 1:
            place.insert(last, _junk(rng))
        elif action == 2 and len(place) > 1:
            other = rng.choice([*place] if isinstance(place, dict) else [0, -1])
            place[last], place[other] = place[other], place[last]
        elif action == 3 and isinstance(place[last], str):
            place[last] = damaged(place[last].encode("utf-8", "surrogatepass"), rng)
            place[last] = place[last].decode("utf-8", "surrogateescape")
        elif action == 3 and type(place[last]) in (int, float):
            factor = rng.choice([-1, 2, 1000, 10**9])
            place[last] = place[last] * factor + rng.choice([0, 0, 1])
        else:
            place[last] = _junk(rng)
    return value


def _written(value: Any) -> bytes:
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).encode("utf-8", errors="surrogatepass")
    finally:
        sys.set_int_max_str_digits(4300)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with some flipped, cut out, repeated, inserted, or cut off."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 5)):
        at, action = rng.randrange(len(changed) + 1), rng.randrange(5)
        if action == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif action == 1:
            del changed[at : at + rng.randrange(1, 50)]
        elif action == 2:
            changed[at:at] = rng.choice(_TOKENS)
        elif action == 3 and rng.random() < 0.3:
            del changed[at:]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 50)]
    return bytes(changed)


def _lines(content: bytes, rng: random.Random) -> bytes:
    """Lines of JSON, one of them changed, and perhaps in another order."""
    lines = content.splitlines(keepends=True)
    at, action = rng.randrange(len(lines)), rng.randrange(8)
    if action == 0:
        lines.insert(at, rng.choice(lines))
    elif action == 1:
        lines[at], lines[0] = lines[0], lines[at]
    elif action == 2:
        lines[at] = rng.choice(BYTES) + b"\n"
    elif action == 3:
        lines[at] = damaged(lines[at], rng)
    else:
        lines[at] = _written(mutated(json.loads(lines[at]), rng)) + b"\n"
    return b"".join(lines)


def _table(content: bytes, rng: random.Random) -> bytes:
    """A parquet file with a column that is missing, doubled, or of another type."""
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    at, action = table.column_names.index(name), rng.randrange(4)
    if action == 0 and table.num_columns > 1:
        table = table.drop_columns([name])
    elif action == 1:
        other = rng.choice(table.column_names)
        table = table.append_column(other, table.column(name))
    else:
        rows = table.num_rows
        others = (
            pyarrow.array([1.5] * rows),
            pyarrow.array([10**12] * rows),
            pyarrow.array([None] * rows),
            pyarrow.array([b"\xff\x00"] * rows),
            pyarrow.array([True] * rows),
            pyarrow.array([{"a": "b"}] * rows),
            pyarrow.array([["x", None]] * rows),
            pyarrow.array(["\0\x1b[2J"] * rows),
            pyarrow.array([2**62] * rows, pyarrow.timestamp("ns")),
            pyarrow.array([2**62] * rows, pyarrow.date64()),
            pyarrow.array([2**62] * rows, pyarrow.duration("s")),
            pyarrow.array(["x"] * rows).dictionary_encode(),
        )
        table = table.set_column(at, name, rng.choice(others))
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def variant(name: str, content: bytes, rng: random.Random) -> bytes:
    """Another content of a file, by the suffix of its name."""
    if rng.random() < 0.05:
        return rng.choice(BYTES)
    if name.endswith(".gz"):
        if rng.random() < 0.3:
            return damaged(content, rng)
        inner = variant(name[: -len(".gz")], gzip.decompress(content), rng)
        return gzip.compress(inner, 1, mtime=0)
    if rng.random() < 0.3 or not content:
        return damaged(content, rng)
    if name.endswith(".json"):
        return _written(mutated(json.loads(content), rng))
    if name.endswith(".jsonl"):
        return _lines(content, rng)
    if name.endswith(".parquet"):
        return _table(content, rng)
    if name.endswith(".safetensors"):
        size = int.from_bytes(content[:8], "little")
        header = _written(mutated(json.loads(content[8 : 8 + size]), rng))
        return len(header).to_bytes(8, "little") + header + content[8 + size :]
    return damaged(content, rng)


_watched: list[bool] = []


def _watch(event: str, args: tuple) -> None:
    """Ends the reading if it starts a program, unpickles, or opens what a name says."""
    if not _watched or not _watched[-1]:
        return
    if event == "subprocess.Popen" and _PARSER in args[1]:
        return
    if event in ("os.system", "subprocess.Popen", "os.exec", "pickle.find_class"):
        raise _PlantedError(f"{event}: {args!r:.200}")
    if event in ("import", "open", "compile") and PLANTED in str(args[:2]):
        raise _PlantedError(f"{event}: {args!r:.200}")


sys.addaudithook(_watch)


class Finds:
    """The results of fuzzing one reader.

    Attributes:
      num: number of contents that were read.
      num_refused: how many of them were refused.
      by_kind: number of finds, by what was raised and where.
      examples: the content of the first find of each kind, and its error.
    """

    def __init__(self):
        self.num = self.num_refused = 0
        self.by_kind: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, bytes, BaseException | None]] = {}

    def add(self, kind: str, name: str, content: bytes, error: BaseException | None):
        self.by_kind[kind] += 1
        self.examples.setdefault(kind, (name, content, error))

    def check(self) -> None:
        """Fails with the first find of each kind."""
        if self.by_kind:
            shown = [
                f"{count} of {kind}: {self.examples[kind][0]} with "
                f"{self.examples[kind][1][:300]!r}"
                for kind, count in self.by_kind.most_common()
            ]
            first = next(iter(self.examples.values()))[2]
            raise AssertionError("\n".join(shown)) from first


def fuzz(
    read: Callable[[], Any],
    paths: Sequence[Path],
    *,
    num: int | None = None,
    seconds: float = 0.0,
    seed: int = 0,
    refusals: tuple[type[BaseException], ...] = (ValueError,),
) -> Finds:
    """Reads files in many variants, one file changed at a time.

    An error is a named one if it is of `refusals`, the commands show it as one line,
    and that line is short. Anything else is a find: another error, more than `MAX_S`
    seconds of the processor, gigabytes of memory, and a program, module or file that
    the content names.

    Args:
      read: reads the files.
      paths: the files; each is written again at the end.
      num: number of variants; None to continue for `seconds`.
      seed: of the variants.
      refusals: errors that `read` may raise.
    """
    rng, finds = random.Random(seed), Finds()
    whole = {path: path.read_bytes() for path in paths}
    read()
    end = time.monotonic() + seconds
    while finds.num < num if num is not None else time.monotonic() < end:
        path = rng.choice(paths)
        content = variant(path.name, whole[path], rng)
        _rewrite(path, content)
        finds.num += 1
        _one(read, path.name, content, refusals, finds)
        _rewrite(path, whole[path])
    read()
    return finds


def _rewrite(path: Path, content: bytes) -> None:
    """Replaces the content in place; some file systems flush a file cut to nothing."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def _one(
    read: Callable[[], Any],
    name: str,
    content: bytes,
    refusals: tuple[type[BaseException], ...],
    finds: Finds,
) -> None:
    def interrupt(*_: Any) -> None:
        raise _HangError

    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MAX_MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limits[1]))
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, _INTERRUPT_S)
    started = time.process_time()
    _watched.append(True)
    try:
        read()
    except refusals as error:
        finds.num_refused += 1
        if isinstance(error, ValueError | OSError) and not _is_ours(error):
            finds.add(f"no line: {_where(error)}", name, content, error)
        elif len(str(error)) > _MAX_MESSAGE:
            finds.add(f"long message: {_where(error)}", name, content, error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library's Rust code is one
        finds.add(_where(error), name, content, error)
    finally:
        _watched.pop()
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    if (took := time.process_time() - started) > MAX_S:
        finds.add(f"{took:.1f} s", name, content, None)


def _where(error: BaseException) -> str:
    """The type of an error, and the last lines of this package that it came through."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if f"{os.sep}jaxsearch{os.sep}" in code.co_filename:
            lines.append(f"{Path(code.co_filename).name}:{code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} in {' > '.join(lines[-2:])}"
