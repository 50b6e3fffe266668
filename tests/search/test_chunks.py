"""Tests of `jaxsearch corpus chunk`: passages of text, Markdown and HTML."""

import json

import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.chunks import ChunkSize, chunks
from jaxsearch.search.document_text import html_document, markdown_document
from jaxsearch.search.passages import read_passages

TEXT = " ".join(
    f"Sentence {i} has {' '.join(['so'] * (1 + i % 7))} many words." for i in range(50)
)


@pytest.mark.parametrize("num_words", [7, 20, 100])
def test_passages_are_whole_sentences_and_together_the_text(num_words):
    found = list(chunks(TEXT, ChunkSize(num_words=num_words)))
    assert " ".join(found) == TEXT
    assert max(len(text.split()) for text in found) <= num_words
    # Of 12 words, the longest sentences do not fit into seven.
    if num_words > 7:
        assert all(text.startswith("Sentence") for text in found)
        assert len(found) < 2 * len(TEXT.split()) / num_words


def test_an_overlap_is_the_longest_that_fits():
    text = "One two three. Four five. Six seven eight nine."
    size = ChunkSize(num_words=6, overlap=3)
    assert list(chunks(text, size)) == [
        "One two three. Four five.",
        "Four five. Six seven eight nine.",
    ]


def test_long_sentences_are_cut_between_words():
    text = " ".join(str(i) for i in range(25))
    assert [len(t.split()) for t in chunks(text, ChunkSize(num_words=10))] == [
        10,
        10,
        5,
    ]


def test_texts_without_spaces_are_cut():
    found = list(
        chunks("東京は日本の首都です。人口は多い。" * 20, ChunkSize(num_words=30))
    )
    assert all(len(text) <= 40 for text in found) and len(found) > 10
    assert "".join(found) == "東京は日本の首都です。人口は多い。" * 20
    found = list(chunks("x" * 100_000, ChunkSize(num_words=100)))
    assert "".join(found) == "x" * 100_000 and len(found) == 5


def test_html_loses_what_is_no_text():
    page = html_document(
        "<html><head><title>A &amp; B</title><style>p {}</style>"
        "<script>document.write('<p>evil</p>')</script></head><body><nav>Home</nav>"
        "<h1>Heading</h1><p>One <b>bold</b> word.<p>Two&nbsp;&lt;tags&gt;.<br>Three"
        "<svg><text>drawn</text></svg><footer>small print</footer></body>"
    )
    assert page.title == "A & B"
    expected = "Heading\n\nOne bold word.\n\nTwo <tags>.\n\nThree"
    assert page.text == expected
    assert html_document("<p>only<h1>the head</h1>").title == "the head"


def test_markdown_loses_its_marks():
    found = markdown_document(
        '---\ntitle: "Front"\n---\n# First #\nSee [the **page**](http://x.y/z).\n'
        "## Next\n![a picture](p.png) and `code`\n"
    )
    assert found.title == "Front"
    paragraphs = [" ".join(part.split()) for part in found.text.split("\n\n")]
    assert [part for part in paragraphs if part] == [
        "First #",
        "See the page.",
        "Next",
        "a picture and code",
    ]
    assert markdown_document("text\n# Title #\nmore").title == "Title"


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXT)
    (folder / "a.md").write_text("# Guide\n" + TEXT)
    (folder / "deep" / "a.html").write_text(f"<title>Page</title><p>{TEXT}")
    (folder / "deep" / "data.csv").write_text("not read")
    (folder / ".hidden.txt").write_text("not read")
    return folder


def test_a_folder_becomes_a_corpus(documents, tmp_path, capsys):
    out = tmp_path / "corpus.jsonl"
    command = ["corpus", "chunk", str(documents), "--out", str(out), "--json"]
    assert main([*command, "--words", "50"]) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])
    passages = read_passages(out)
    assert (counts["files"], counts["passages"]) == (3, len(passages))
    assert {p.id.partition("#")[0] for p in passages} == {
        "a.txt",
        "a.md",
        "deep/a.html",
    }
    assert passages[0].id == "a.md#1"
    assert {p.title for p in passages} == {"a", "Guide", "Page"}
    assert all(len(p.text.split()) <= 50 for p in passages)
    # Again, without --words, which finds that the file exists.
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err


def test_a_file_that_is_not_utf_8_is_one_line(documents, tmp_path, capsys):
    (documents / "bad.txt").write_bytes(b"fine\nnicht fein: " + b"\xfcber")
    out = tmp_path / "corpus.jsonl"
    command = ["corpus", "chunk", str(documents), "--out", str(out)]
    assert main(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "bad.txt, line 2: expected UTF-8, got byte 0xfc" in line
    assert not out.exists()
    assert main([*command, "--skip-bad-files"]) == 0
    assert "bad.txt" in capsys.readouterr().err
    assert len(read_passages(out)) > 3


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--words", "0"], "--words"),
        (["--overlap", "100"], "--overlap"),
        (["--out", "x.txt"], "*.jsonl"),
    ],
    ids=["words", "overlap", "name"],
)
def test_bad_options_are_one_line(documents, tmp_path, arguments, said, capsys):
    command = ["corpus", "chunk", str(documents), "--out", str(tmp_path / "c.jsonl")]
    assert main([*command, *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_folder_without_text_and_a_link_out_of_it(documents, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    command = ["corpus", "chunk", str(empty), "--out", str(tmp_path / "c.jsonl")]
    assert main(command) == 2
    (empty / "blank.txt").write_text(" \n")
    assert main(command) == 2
    (empty / "link.txt").symlink_to(documents / "a.txt")
    assert main(command) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "no file named" in first and "none of 1 files has text" in second
    assert "link.txt" in third
