"""The rules of robots.txt."""

import time

import pytest

from jaxsearch.web.robots import ALLOW_ALL, ALLOW_NONE, parse_robots

TEXT = """\
# A comment
User-agent: other
Disallow: /

User-agent: first
User-agent: JaxSearch/1.0
Disallow: /secret # and this is why
Disallow: /*.pdf$
Disallow: /a*b*c
Allow: /secret/public
Crawl-delay: 10
Disallow: /caf%C3%A9

User-agent: *
Disallow: /everyone
"""


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("/", True),
        ("/secret", False),
        ("/secrets/x", False),
        ("/secret/public/x", True),
        ("/file.pdf", False),
        ("/file.pdf?x", True),
        ("/a-b-c", False),
        ("/a-c-b", True),
        ("/caf%c3%a9", False),
        ("/everyone", True),
    ],
)
def test_rules_of_our_own(path, is_allowed):
    assert parse_robots(TEXT, "jaxsearch").allows(path) is is_allowed


def test_rules_of_all():
    rules = parse_robots("User-agent: *\nDisallow: /x\nDisallow:\n", "jaxsearch")
    assert not rules.allows("/x/y") and rules.allows("/y")
    assert parse_robots("", "jaxsearch").allows("/")
    assert parse_robots("<html>nonsense: yes", "jaxsearch") == ALLOW_ALL
    assert not ALLOW_NONE.allows("/")


def test_a_hostile_pattern_takes_no_time():
    rules = parse_robots("User-agent: *\nDisallow: /" + "*a" * 5000, "jaxsearch")
    started = time.monotonic()
    assert rules.allows("/" + "a" * 2000)
    assert time.monotonic() - started < 1
