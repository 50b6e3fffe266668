"""The program that parses pages, in a process of its own; it imports nothing of ours.

It reads HTML from standard input and writes {"title", "text"} to standard output. A
message is its length (four bytes, little endian) and UTF-8 text. The argument is the
limit of CPU seconds for a page; the system ends a process that takes more.
"""

import contextlib
import json
import os
import re
import signal
import struct
import sys

from lxml import etree, html
from trafilatura import bare_extraction

_MAX_MEMORY = 2 * 2**30

# What surrounds the main text, by tag, role, and the words of class and id.
_TAGS = frozenset(
    "nav footer aside dialog form button select input textarea script style noscript "
    "template iframe svg amp-ad amp-sidebar amp-consent amp-embed amp-sticky-ad".split()
)
_ROLES = frozenset(
    "navigation banner contentinfo search dialog alertdialog menu menubar "
    "complementary".split()
)
_WORDS = frozenset(
    "cookie cookies consent gdpr nav navbar navbox navigation menu breadcrumb "
    "breadcrumbs footer sidebar newsletter subscribe signup advert advertisement ad "
    "ads sponsored promo share sharing social sharedaddy related recommendations "
    "pagination pager catlinks toc editsection paywall modal popup".split()
)
# Elements that are kept whatever they are called, as an article in class "has-menu".
_KEPT = frozenset("html head title body main article h1".split())
_MAX_SHARE = 0.5  # of the page's text; an element with more of it is the main text
_MAX_CLOSING_LEN = 200


# Reading it loads what trafilatura loads late.
_FIRST_PAGE = "<html><body><article><p>A short page.</p></article></body></html>"


def main() -> None:
    _limit_memory()
    limit_s = float(sys.argv[1])
    # Whatever a library prints must not get among the messages.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _write(replies, read_page(_FIRST_PAGE))
    while len(head := sys.stdin.buffer.read(4)) == 4:
        page = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
        # Without a handler the signal ends the process, also inside of libraries in C.
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        found = read_page(page.decode())
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(replies, found)


def _limit_memory() -> None:
    # Not every system has the module or accepts the limit.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


def _write(replies, found: dict[str, str]) -> None:
    message = json.dumps(found).encode()
    replies.write(struct.pack("<I", len(message)) + message)
    replies.flush()


def read_page(page: str) -> dict[str, str]:
    """The title and the main text of a page; empty if it has none."""
    tree = _parsed(page)
    if tree is None:
        return {"title": "", "text": ""}
    title = " ".join("".join(tree.xpath("//head/title[1]//text()")).split())
    _remove_surroundings(tree)
    _remove_loose_surroundings(tree)
    document = bare_extraction(
        tree, include_comments=True, include_tables=True, favor_recall=True
    )
    return {"title": title, "text": (document.text if document else "") or ""}


def _parsed(page: str) -> html.HtmlElement | None:
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        return html.document_fromstring(page.encode(), parser=parser)
    except (etree.ParserError, ValueError):
        return None


def _text_len(element: html.HtmlElement) -> int:
    return sum(len(text.strip()) for text in element.itertext())


def _remove_surroundings(tree: html.HtmlElement) -> None:
    """Removes menus, footers, banners and the like, which trafilatura may keep.

    It judges by the shape of the text, and a consent banner or the footer of a short
    page look like text.
    """
    limit = _MAX_SHARE * _text_len(tree)
    for element in list(tree.iter(etree.Element)):
        if element.tag in _KEPT or not _is_surrounding(element):
            continue
        parent = element.getparent()
        if parent is not None and _text_len(element) <= limit:
            element.drop_tree()


def _is_surrounding(element: html.HtmlElement) -> bool:
    if element.tag in _TAGS or element.get("role") in _ROLES:
        return True
    if element.get("hidden") is not None or element.get("aria-modal") == "true":
        return True
    names = f"{element.get('class', '')} {element.get('id', '')}".lower()
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", names))


def _remove_loose_surroundings(tree: html.HtmlElement) -> None:
    """Removes what stands before the first rule and after the last one of an old page.

    Pages without structure set off their links and closing notes with <hr>.
    """
    body = tree.find("body")
    rules = [] if body is None else body.findall("hr")
    if not rules or body.find(".//p") is not None:
        return
    opening = list(rules[0].itersiblings(preceding=True))
    links = sum(_text_len(a) for e in opening for a in e.iter("a"))
    # The text of links, and a few signs between them.
    if links > _MAX_SHARE * sum(map(_text_len, opening)):
        _drop(opening)
    closing = list(rules[-1].itersiblings())
    if len(rules) > 1 and sum(map(_text_len, closing)) < _MAX_CLOSING_LEN:
        _drop(closing)


def _drop(elements: list[html.HtmlElement]) -> None:
    for element in elements:
        element.drop_tree()


if __name__ == "__main__":
    main()
