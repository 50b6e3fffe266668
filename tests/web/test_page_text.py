"""Readable text of pages: twenty layouts, and pages that are hard to read."""

import os
from pathlib import Path

import pytest

from jaxsearch.web import page_text
from jaxsearch.web.fetch import FetchedPage, PageError
from jaxsearch.web.page_text import PageReader, cleaned, decoded

PAGES = sorted((Path(__file__).parent / "pages").glob("*.html"))


def page(body, content_type="text/html"):
    body = body.encode() if isinstance(body, str) else body
    return FetchedPage(url="http://a.test/", content_type=content_type, body=body)


def test_there_are_twenty_layouts():
    assert len(PAGES) == 20


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_main_text_is_whole_and_alone(path, server, fetcher, reader):
    url = server.add_html(f"/{path.name}", path.read_bytes())
    title, text = reader.read(fetcher.fetch(url))
    shown = " ".join(f"{title} {text}".split())
    main, _, others = path.with_suffix(".txt").read_text().partition("\n---\n")
    assert [line for line in main.splitlines() if line not in shown] == []
    assert [line for line in others.splitlines() if line in shown] == []


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("Grüße", "text/html; charset=utf-8", "Grüße"),
        ("Grüße".encode("utf-16"), "text/html; charset=utf-8", "Grüße"),
        ("Grüße".encode("latin-1"), "text/html; charset=ISO-8859-1", "Grüße"),
        ("Grüße “quoted”".encode("cp1252"), "text/html", "Grüße “quoted”"),
        ("Привет".encode("koi8-r"), "text/html; charset='koi8-r'", "Привет"),
        ('<meta charset="shift_jis">日本'.encode("shift_jis"), "text/html", "日本"),
        # No character sets, but codecs of Python.
        ("Grüße", "text/html; charset=unicode_escape", "Grüße"),
        ("Grüße", "text/html; charset=idna", "Grüße"),
        ("Grüße", "text/html; charset=nonsense", "Grüße"),
        # No codec of Python has these names.
        ("Grüße", "text/html; charset=iso-8859-12", "Grüße"),
        ('<meta charset="windows-1259">Grüße', "text/html", "Grüße"),
        ('<meta charset="utf-16">Grüße', "text/html", "Grüße"),
    ],
)
def test_characters(body, content_type, text):
    assert decoded(page(body, content_type)).endswith(text)


def test_text_is_cleaned():
    assert cleaned("a\x00b\r\n\n \n c\ud800d\x1b[0m") == "a b\nc d [0m"


def test_plain_text_is_taken_as_it_is(reader):
    found = reader.read(page("one  line\n\n<b>two</b>", "text/plain; charset=utf-8"))
    assert found == ("", "one line\n<b>two</b>")


@pytest.mark.parametrize(
    "body", ["", "   ", "<html><body></body></html>", "<script>a()</script>", "\x00"]
)
def test_a_page_without_text(reader, body):
    with pytest.raises(PageError) as refused:
        reader.read(page(body))
    assert refused.value.reason == "no_text"


def test_a_deep_page_ends_neither_the_process_nor_the_run(reader):
    with pytest.raises(PageError):
        reader.read(page("<div>" * 100_000 + "x"))
    assert "The end" in reader.read(page("<p>A good page. The end of it.</p>")).text


def test_a_slow_page_ends_its_process_alone(reader, monkeypatch):
    monkeypatch.setattr(page_text, "_PARSE_CPU_S", 0.3)
    parser = reader._idle.get()
    parser.stop()
    reader._idle.put(parser)
    # Of many links in a list, trafilatura compares each with the others.
    slow = page("<ul>" + "<li><a href=x>aa bb</a></li>" * 50_000)
    with pytest.raises(PageError, match="cannot be parsed in 0.3 s") as refused:
        reader.read(slow)
    assert refused.value.reason == "parsing"
    monkeypatch.undo()
    assert reader.read(page("<p>A good page. The end of it.</p>")).text


def test_a_process_that_ends_while_it_starts_fails_its_page_alone(
    tmp_path, monkeypatch
):
    program = tmp_path / "parser.py"
    program.write_text("raise SystemExit(1)")
    monkeypatch.setattr(page_text, "_PROGRAM", program)
    reader = PageReader(num_processes=1)
    # The second page has a new process.
    for _ in range(2):
        with pytest.raises(PageError, match="ended while it started") as refused:
            reader.read(page("<p>A good page. The end of it.</p>"))
        assert refused.value.reason == "parsing"
    reader.close()


def test_the_process_knows_no_keys(monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", "secret")
    process = page_text._started()
    environment = Path(f"/proc/{process.pid}/environ")
    if os.path.exists(environment):
        assert b"secret" not in environment.read_bytes()
        assert b"PATH" in environment.read_bytes()
    process.kill()
    process.communicate()
