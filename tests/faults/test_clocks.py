"""Durations and rates come from a clock that cannot be set."""

import ast
from pathlib import Path

import jaxsearch

PACKAGE = Path(jaxsearch.__file__).parent
# They compare a file's time, or the date in a server's answer, and bound the result.
READ_THE_DATE = {"web/turns.py", "remote/connection.py"}


def test_only_dates_are_read_from_the_clock():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                *("time.time", "time.time_ns", "datetime.now", "datetime.utcnow"),
                *("datetime.datetime.now", "datetime.datetime.utcnow"),
            ):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == READ_THE_DATE
