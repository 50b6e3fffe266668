"""The console of a run: plain lines in files, one moving line on terminals."""

import io
import math
import os
import pty
import re
import select
import struct
import termios
import threading
import time
from fcntl import ioctl

import pytest

from jaxsearch.monitor.console import Console, is_live
from jaxsearch.monitor.console_writer import ConsoleWriter
from jaxsearch.monitor.progress_bar import StageBar, clock
from jaxsearch.monitor.step_columns import COLUMNS, fitting_columns, header, line

RL_VALUES = {
    "reward/mean": 0.5,
    "em": 0.25,
    "searches/mean": 1.5,
    "len/policy": 80.0,
    "loss": math.nan,
    "kl": 0.001,
    "grad_norm": 1.0,
    "time/rollout": 2.0,
    "time/search_wait": 1.0,
    "time/update": 1.0,
    "tokens_per_s/total": 12345.0,
}
IMITATION_VALUES = {"loss": 2.0, "grad_norm": 1.0, "time/update": 0.5}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal of some columns, and what is written to it."""

    def __init__(self, columns: int):
        self._reader, writer = pty.openpty()
        ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(writer, "w")
        self._parts = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._is_open = True
        self._thread.start()

    def _read(self) -> None:
        while self._is_open or select.select([self._reader], [], [], 0)[0]:
            if select.select([self._reader], [], [], 0.02)[0]:
                self._parts.append(os.read(self._reader, 65536))

    def close(self) -> str:
        """Everything that was written."""
        if self._is_open:
            self.stream.flush()
            self._is_open = False
            self._thread.join()
            self.stream.close()
            os.close(self._reader)
        return b"".join(self._parts).decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(monkeypatch, request):
    """A terminal of `request.param` columns."""
    monkeypatch.setenv("TERM", "xterm")
    # rich asks the terminal of standard output, which is not this one.
    monkeypatch.setenv("COLUMNS", str(request.param))
    for name in ("LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    opened = Terminal(request.param)
    yield opened
    opened.close()


def write_run(stream, imitation_steps=25, rl_steps=25, pause=0.0):
    """A run of two stages; returns when its console is closed."""
    console = Console(stream)
    writer = ConsoleWriter({"read": imitation_steps, "search": rl_steps}, console)
    writer.begin_stage("read", 0)
    time.sleep(pause)
    for step in range(1, imitation_steps + 1):
        writer.write(step, "read", IMITATION_VALUES)
    console.print("held out, before RL: em 0.185, 1.06 searches, n 200")
    writer.begin_stage("search", 0)
    for step in range(1, rl_steps + 1):
        writer.write(imitation_steps + step, "search", RL_VALUES)
        time.sleep(pause)
    writer.close()
    console.close()


def lines_left(shown: str, columns: int) -> list[str]:
    """The lines that stay on a terminal after everything was shown.

    Understands what the console uses: carriage returns, erasing and moving up.
    """
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.|\n", shown):
        if token == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            rows[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", token):
            row -= int(token[2:-1] or 1)
        elif token.startswith("\x1b"):
            assert token[-1] in "mhl", f"unexpected control {token!r}"
        else:
            assert column < columns, f"wrapped: {rows[row]!r}"
            rows[row] = rows[row][:column].ljust(column) + token
            column += 1
    return [text.rstrip() for text in rows if text.strip()]


def test_a_file_gets_one_plain_line_in_ten(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI systems set it
    stream = io.StringIO()
    write_run(stream)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stream.getvalue())
    lines = stream.getvalue().splitlines()
    assert [text.split()[:2] for text in lines] == [
        ["stage", "step"],
        *(["read", f"{n}/25"] for n in (1, 10, 20, 25)),
        ["held", "out,"],
        ["stage", "step"],
        *(["search", f"{n}/25"] for n in (1, 10, 20, 25)),
    ]
    assert len({len(text) for text in lines[6:]}) == 1
    # search_wait is a part of rollout: 3 seconds, not 4.
    assert lines[7].split() == (
        "search 1/25 0.500 0.250 1.50 80 nan 0.0010 1.000 3.00 12,345".split()
    )


@pytest.mark.parametrize("terminal", [60, 120], indirect=True)
def test_a_terminal_keeps_one_line_of_a_stage_and_one_of_ten_rl_steps(terminal):
    write_run(terminal.stream)
    left = lines_left(terminal.close(), 120)
    assert left[0] == "read: 25 steps in 0:00, loss 2.0000"
    assert [text.split()[:2] for text in left[1:]] == [
        ["held", "out,"],
        ["stage", "step"],
        *(["search", f"{n}/25"] for n in (10, 20, 25)),
    ]


@pytest.mark.parametrize("terminal", [60], indirect=True)
def test_nothing_is_wrapped_on_a_narrow_terminal(terminal):
    write_run(terminal.stream, rl_steps=12, pause=0.12)
    shown = terminal.close()
    left = lines_left(shown, 60)
    assert max(len(text) for text in left) <= 60
    titles = ["reward", "em", "searches", "loss", "s"]
    assert left[2].split() == ["stage", "step", *titles]
    moving = [t for t in re.split(r"[\r\n]", ESCAPE.sub("", shown)) if "[" in t]
    assert moving and max(len(text) for text in moving) < 60
    assert any(re.search(r"search \d+/12 \[=+ +\] .* left", text) for text in moving)


@pytest.mark.parametrize("terminal", [60], indirect=True)
@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_is_written_to_like_a_file(terminal, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    write_run(terminal.stream, pause=0.01)
    shown = terminal.close()
    assert "\x1b" not in shown and "\r" not in shown
    assert sum("search" in text for text in shown.splitlines()) == 6


@pytest.mark.parametrize("terminal", [60], indirect=True)
def test_a_terminal_shows_what_is_compiled(terminal):
    console = Console(terminal.stream)
    console.show_bar(StageBar("read", 150, 0))
    with console.compiling("the rollout", 3) as advance:
        advance()
        time.sleep(0.6)
    with console.compiling("the update for rows of 60 tokens", 1):
        time.sleep(0.6)
    with console.activity("a title that is longer than the whole line of a terminal"):
        time.sleep(0.6)
    console.close()
    shown = terminal.close()
    assert "read 0/150 0:00 compiling the rollout: 1 of 3 programs" in shown
    assert "read 0/150 0:00 compiling the update for rows of 60 token" in shown
    assert lines_left(shown, 60) == []


def test_a_file_gets_a_line_when_a_slow_compilation_is_done():
    stream = io.StringIO()
    console = Console(stream)
    for seconds in (0.0, 1.1):
        with console.compiling("the rollout", 2) as advance:
            time.sleep(seconds)
            advance()
            advance()
    assert re.fullmatch(
        r"compiled the rollout \(2 programs\) in 1\.\d s\n", stream.getvalue()
    )


@pytest.mark.parametrize("terminal", [60], indirect=True)
def test_lines_of_others_stay_above_the_moving_line(terminal, monkeypatch):
    """A reward function that prints, and a notice while the bar is shown."""
    monkeypatch.setattr("sys.stdout", terminal.stream)
    console = Console()
    console.show_bar(StageBar("search", 150, 3))
    time.sleep(0.4)
    print("from a reward")
    console.print("alarm drift, step 4: " + "word " * 20)
    time.sleep(0.4)
    console.close()
    left = lines_left(terminal.close(), 60)
    assert left[0] == "from a reward"
    assert left[1].startswith("alarm drift, step 4: word") and len(left) == 3


@pytest.mark.parametrize("terminal", [60], indirect=True)
def test_a_command_has_no_line_break_on_a_narrow_terminal(terminal):
    question = f"    'Who is the founder of the {'newer ' * 9}company?'"
    console = Console(terminal.stream)
    console.print(question)
    console.print(question, is_for_copying=True)
    console.close()
    *broken, whole = terminal.close().splitlines()
    assert len(broken) == 2 and whole == question


def test_a_silent_console_prints_nothing():
    stream = io.StringIO()
    console = Console(stream, is_silent=True)
    console.print("held out")
    with console.compiling("the rollout", 1):
        time.sleep(1.01)
    closed = Console(stream)
    closed.close()
    closed.print("after the end")
    assert stream.getvalue() == ""


def test_without_standard_output_nothing_is_printed(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    console = Console()
    with console.activity("reading"):
        console.print("a line")
    assert not console.is_live and console.width is None


def test_a_step_of_another_stage_is_refused():
    writer = ConsoleWriter({"read": 3, "search": 10}, Console(io.StringIO()))
    writer.begin_stage("read", 0)
    with pytest.raises(ValueError, match="'search', which has not begun"):
        writer.write(1, "search", RL_VALUES)


def test_a_resumed_stage_counts_from_its_step():
    stream = io.StringIO()
    writer = ConsoleWriter({"search": 120}, Console(stream))
    writer.begin_stage("search", 104)
    for step in range(105, 121):
        writer.write(step, "search", RL_VALUES)
    steps = [text.split()[1] for text in stream.getvalue().splitlines()]
    assert steps == ["step", "105/120", "110/120", "120/120"]


@pytest.mark.parametrize("width", [*range(20, 120, 7), None])
def test_columns_are_dropped_until_the_line_fits(width):
    values = {**RL_VALUES, "seconds": 3.0}
    place = "search  150/150"
    columns = fitting_columns(values, len(place), width)
    for text in (line(place, columns, values), header(place, columns)):
        assert len(text) <= (width or 1000)
    titles = [column.title for column in columns]
    assert titles == [c.title for c in COLUMNS if c.title in titles]
    if width == 55:
        assert titles == ["reward", "em", "searches", "s"]
    if width is None:
        assert columns == COLUMNS


def test_remaining_time_ignores_the_first_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = StageBar("search", 10, 0)
    now[0] = 60.0  # compiled
    bar.advance()
    assert bar.remaining is None
    for _ in range(4):
        now[0] += 2.0
        bar.advance()
    assert bar.remaining == 10.0
    now[0] += 0.5
    assert bar.remaining == 9.5
    done = f"[{'=' * 15}{' ' * 15}]"
    assert bar.render(60) == f"search 5/10 {done} 1:08, 0:09 left"
    assert bar.render(25) == "search 5/10 1:08, 0:09 left"


def test_clock():
    assert [clock(s) for s in (0.0, 59.9, 61.0, 3661.0)] == [
        *("0:00", "0:59", "1:01", "1:01:01"),
    ]


def test_a_pipe_is_not_live():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader):
        assert not is_live(stream)
