"""Readable text of a page: parsed in another process, in bounded time."""

import codecs
import json
import os
import queue
import re
import selectors
import struct
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import NamedTuple

from jaxsearch.web.fetch import FetchedPage, PageError

# For a page; most take less than a tenth of a second. CPU time is what counts, because
# training may keep all cores busy.
_PARSE_CPU_S = 5.0
_PARSE_S = 60.0
_START_S = 60.0  # for a process to import its libraries
_PROGRAM = Path(__file__).with_name("parser_process.py")
_MAX_PAGES = 500  # of a process, so that its memory stays bounded
_MAX_TEXT_BYTES = 4_000_000

# Python knows codecs that are not character sets, and some that take very long.
_CHARSETS = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|us-ascii|ascii|latin-?1|iso-?8859-?\d+|windows-?125\d|"
    r"cp125\d|koi8-[ru]|shift[_-]jis|euc-(jp|kr)|iso-2022-jp|gbk|gb2312|gb18030|big5",
    re.I,
)
_IN_HEADER = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.I)
_IN_PAGE = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]+)", re.I)
# Control characters, halves of surrogate pairs, and the sign for unreadable bytes.
_NO_TEXT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class PageText(NamedTuple):
    """The title and the main text of a page."""

    title: str
    text: str


def decoded(page: FetchedPage) -> str:
    """The characters of a page.

    The byte order mark says how they are written, else the header, else the page
    itself; else they are UTF-8, or Windows-1252 if they cannot be.
    """
    found = _IN_HEADER.search(page.content_type)
    declared = [found.group(1)] if found else []
    if found := _IN_PAGE.search(page.body[:4096]):
        # A page that can be read as ASCII up to here is not in UTF-16.
        name = found.group(1).decode("ascii")
        declared.append("utf-8" if name.lower().startswith("utf-16") else name)
    for mark, name in _MARKS:
        if page.body.startswith(mark):
            declared = [name]
    for name in declared:
        if _CHARSETS.fullmatch(name) and _has_codec(name):
            # As browsers do: pages that say Latin-1 have quotes of Windows-1252.
            is_latin = re.fullmatch(r"latin-?1|iso-?8859-?1|(us-)?ascii", name, re.I)
            charset = "windows-1252" if is_latin else name
            return page.body.decode(charset, errors="replace")
    try:
        return page.body.decode()
    except UnicodeDecodeError:
        return page.body.decode("windows-1252", errors="replace")


def _has_codec(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:  # such as iso-8859-12, which was never made
        return False
    return True


def cleaned(text: str) -> str:
    """Text without control characters, halves of surrogate pairs and blank lines.

    Tags and special tokens are deleted later, as in every passage.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _NO_TEXT.sub(" ", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


class PageReader:
    """Reads pages in processes that are ended when they take too long.

    lxml is written in C: a page that makes it slow could not be interrupted in a
    thread, and one that makes it crash would end the run. The processes have a limit
    of memory, and no keys in their environment. They start when they are needed.

    Args:
      num_processes: pages that are read at a time.
    """

    def __init__(self, num_processes: int = 2) -> None:
        self._idle: queue.SimpleQueue[_Parser] = queue.SimpleQueue()
        parsers = [_Parser() for _ in range(num_processes)]
        for parser in parsers:
            self._idle.put(parser)
        # Also when the interpreter ends.
        self.close = weakref.finalize(self, _stop_all, parsers)

    def read(self, page: FetchedPage) -> PageText:
        """The title and the main text of a page.

        Raises:
          PageError: if it has no text, or cannot be parsed in time.
        """
        text = decoded(page)
        if page.content_type.partition(";")[0].strip().lower() in (
            "text/plain",
            "text/markdown",
        ):
            found = PageText("", cleaned(text))
        else:
            parser = self._idle.get()
            try:
                found = parser.parse(text)
            finally:
                self._idle.put(parser)
        if not found.text:
            raise PageError("no_text", "the page has no readable text")
        return found


class _Parser:
    """A process that parses one page at a time; started when the first one comes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._num_pages = 0

    def parse(self, html: str) -> PageText:
        process = self._process
        if process is None or self._num_pages >= _MAX_PAGES:
            self.stop()
            process = self._start()
        self._num_pages += 1
        try:
            _send(process, html.encode(errors="replace"))
            message = self._receive(process, time.monotonic() + _PARSE_S)
        except (BrokenPipeError, EOFError):
            self.stop()
            message = f"the page cannot be parsed in {_PARSE_CPU_S:g} s and 2 GB"
            raise PageError("parsing", message) from None
        found = json.loads(message)
        return PageText(
            " ".join(cleaned(found["title"]).split()), cleaned(found["text"])
        )

    def _start(self) -> subprocess.Popen[bytes]:
        """A process that is ready for pages.

        Raises:
          PageError: if it ends before it is, or is not in time.
        """
        self._process = process = _started()
        self._num_pages = 0
        try:
            # Its first message says that it is ready.
            self._receive(process, time.monotonic() + _START_S)
        except EOFError:
            self.stop()
            message = "the process that parses pages ended while it started"
            raise PageError("parsing", message) from None
        return process

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _receive(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        """A message of the process.

        Raises:
          PageError: if it does not come in time.
          EOFError: if the process has ended.
        """
        assert process.stdout is not None
        data = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(data) < 4 or len(data) < 4 + struct.unpack_from("<I", data)[0]:
                if not selector.select(deadline - time.monotonic()):
                    self.stop()
                    raise PageError("parsing", "parsing the page took too long")
                chunk = os.read(process.stdout.fileno(), 65_536)
                if not chunk or len(data) > _MAX_TEXT_BYTES:
                    raise EOFError
                data += chunk
        return bytes(data[4:])


def _started() -> subprocess.Popen[bytes]:
    kept = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "LANG", "TMPDIR")
    return subprocess.Popen(
        # -P: modules beside the file must not hide those of other packages.
        [sys.executable, "-P", str(_PROGRAM), str(_PARSE_CPU_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in kept if name in os.environ},
        # Ctrl-C is for the run, which ends this process.
        start_new_session=True,
    )


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(struct.pack("<I", len(message)) + message)
    process.stdin.flush()


def _stop_all(parsers: list[_Parser]) -> None:
    for parser in parsers:
        parser.stop()
