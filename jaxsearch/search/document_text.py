"""Title and text of a document: plain text, Markdown or HTML.

Nothing in a document runs, and nothing that it refers to is fetched.
"""

import html.parser
import re
from typing import NamedTuple

# Of which nothing is text for readers.
_LEFT_OUT = {
    *("aside", "button", "footer", "form", "iframe", "math", "nav", "noscript"),
    *("object", "script", "select", "style", "svg", "template"),
}
# Tags within a line; all others end a paragraph.
_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "font"),
    *("i", "ins", "kbd", "mark", "q", "s", "samp", "small", "span", "strong", "sub"),
    *("sup", "time", "u", "var", "wbr"),
}
_MARKDOWN_IMAGE_OR_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_MARKDOWN_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*)$", re.M)
_MARKDOWN_EMPHASIS = re.compile(r"(\*\*|__|~~|`{1,3})(?=\S)(.{1,300}?)(?<=\S)\1")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.S)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.*?)[\"']?\s*$", re.M)


class Document(NamedTuple):
    """A title, "" if the document has none, and paragraphs with blank lines between."""

    title: str
    text: str


def plain_document(text: str) -> Document:
    """A file of plain text, which has no title."""
    return Document("", text)


def markdown_document(text: str) -> Document:
    """A file of Markdown, whose title is that of its front matter or first heading."""
    title = ""
    text = text.replace("\r\n", "\n")
    if front := _FRONT_MATTER.match(text):
        found = _FRONT_TITLE.search(front[1])
        title = found[1] if found else ""
        text = text[front.end() :]
    heading = _MARKDOWN_HEADING.search(text)
    if not title and heading:
        title = _plain(heading[1].rstrip(" \t#"))
        text = text[: heading.start()] + text[heading.end() :]
    # A heading is a paragraph of its own.
    text = _MARKDOWN_HEADING.sub(r"\n\n\1\n\n", text)
    return Document(title, _plain(text))


def html_document(text: str) -> Document:
    """A page of HTML, whose title is that of its <title> or first <h1>."""
    reader = _HtmlReader()
    reader.feed(text)
    reader.close()
    return Document(
        reader.title or reader.heading, "\n\n".join(filter(None, reader.paragraphs()))
    )


def _plain(text: str) -> str:
    text = _MARKDOWN_IMAGE_OR_LINK.sub(r"\1", text)
    return _MARKDOWN_EMPHASIS.sub(r"\2", text)


class _HtmlReader(html.parser.HTMLParser):
    """Collects the text of a page, without what is no text for readers."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._title: list[str] = []
        self._heading: list[str] = []
        self._open: list[str] = []  # tags that are left out and not closed yet
        self._within: list[str] | None = None  # where a title or heading is collected

    @property
    def title(self) -> str:
        return " ".join("".join(self._title).split())

    @property
    def heading(self) -> str:
        return " ".join("".join(self._heading).split())

    def paragraphs(self) -> list[str]:
        text = "".join(self._parts)
        return [" ".join(part.split()) for part in text.split("\0")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LEFT_OUT:
            self._open.append(tag)
        elif tag == "title" and not self._title:
            self._within = self._title
        elif tag == "h1" and not self._heading:
            self._within = self._heading
        if tag not in _INLINE:
            self._parts.append("\0")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # <svg/> has no end tag.
        if tag not in _INLINE:
            self._parts.append("\0")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[self._open.index(tag) :]
        if tag in ("title", "h1"):
            self._within = None
        if tag not in _INLINE:
            self._parts.append("\0")

    def handle_data(self, data: str) -> None:
        if self._open:
            return
        data = data.replace("\0", " ")
        if self._within is not None:
            self._within.append(data)
        if self._within is not self._title:
            self._parts.append(data)
