"""Tab-separated corpora: DPR's three columns, two columns, and what is refused."""

import pytest

from jaxsearch.search.passages import Passage, read_passages

HARBOUR = Passage(
    id="1",
    contents='"Volmeer"\nVolmeer is a "harbour" town. Orro Vant built its tower.',
)
TESSA = Passage(id="2", contents='"Tessa Brink"\nTessa Brink paints.')
QUOTED = '1\t"Volmeer is a ""harbour"" town. Orro Vant built its tower."\t"Volmeer"\n'
PLAIN = "2\tTessa Brink paints.\tTessa Brink\n"


@pytest.fixture
def corpus(tmp_path):
    def corpus(text):
        path = tmp_path / "psgs_w100.tsv"
        path.write_text(text, newline="")
        return path

    return corpus


@pytest.mark.parametrize(
    "text",
    [
        "id\ttext\ttitle\n" + QUOTED + PLAIN,
        QUOTED + PLAIN,
        PLAIN + QUOTED,
        "\n\n" + QUOTED + "\n" + PLAIN,
        ('"id"\t"text"\t"title"\n' + QUOTED + PLAIN).replace("\n", "\r\n"),
        "\ufeffid\ttext\ttitle\n" + QUOTED + PLAIN,
    ],
)
def test_dprs_passages(corpus, text):
    passages = read_passages(corpus(text))
    assert sorted(passages, key=lambda passage: passage.id) == [HARBOUR, TESSA]
    assert HARBOUR.title == "Volmeer"


def test_a_header_gives_the_order_of_the_columns(corpus):
    path = corpus("title\tid\ttext\nTessa Brink\t2\tTessa Brink paints.\n")
    assert read_passages(path) == [TESSA]


def test_a_cell_in_quotes_may_have_tabs_and_line_breaks(corpus):
    path = corpus('id\ttext\ttitle\n1\t"One\nline\tand more."\tA\n2\tb\tB\n2\tc\tC\n')
    with pytest.raises(ValueError, match="line 5: id '2' was already used in line 4"):
        read_passages(path)
    first, second = read_passages(path, skip_bad_rows=True)
    assert first.contents == '"A"\nOne\nline\tand more.'
    assert second == Passage(id="2", contents='"B"\nb')


@pytest.mark.parametrize("name", ["text", "contents"])
def test_two_columns_with_a_header(corpus, name):
    path = corpus(f'id\t{name}\n1\t"Volmeer is a ""harbour"" town."\n')
    assert read_passages(path) == [
        Passage(id="1", contents='Volmeer is a "harbour" town.')
    ]


def test_two_columns_without_a_header_are_kept_unchanged(corpus):
    path = corpus('1\t"Volmeer is a ""harbour"" town."\n2\t"open\n')
    assert [passage.contents for passage in read_passages(path)] == [
        '"Volmeer is a ""harbour"" town."',
        '"open',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ta\n2\tb\tB\n", "line 2: expected id<TAB>text, 2 columns, got 3: '2"),
        ("id\ttext\n1\ta\tb\n", "line 2: expected id<TAB>text, 2 columns, got 3"),
        ("1\ta\tA\n2\tb\n", "line 2: expected id<TAB>text<TAB>title, 3 columns, got 2"),
        ("1\ta\tA\tx\n", "line 1: expected id<TAB>text, 2 columns, got 4"),
        ("1\n", "line 1: expected id<TAB>text, 2 columns, got 1: '1'"),
        (
            "1\ta\tA\n\tb\tB\n",
            "line 2: expected id<TAB>text<TAB>title, 3 columns, got 3",
        ),
        ('1\ta\tA\n2\t"b" c\tB\n', "line 2: malformed quotes"),
        ('1\ta\tA\n2\t"b\tB\n3\tc\tC\n', "lines 2-3: malformed quotes"),
    ],
)
def test_other_rows_are_refused_with_their_lines(corpus, text, message):
    path = corpus(text)
    with pytest.raises(ValueError) as caught:
        read_passages(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_all_rows_of_another_width_are_counted(corpus):
    path = corpus("".join(f"{i}\ta\tA\tx\n" for i in range(1200)))
    with pytest.raises(ValueError, match="1,200 of 1,200 rows are bad: line 1: "):
        read_passages(path)


def test_a_byte_that_is_not_utf8_is_named(corpus):
    path = corpus("")
    path.write_bytes(b"1\ta\tA\n2\tb\xe9\tB\n")
    with pytest.raises(ValueError, match="line 2: expected UTF-8, got byte 0xe9"):
        read_passages(path)
