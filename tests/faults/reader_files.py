"""Readers of the library, each with small files that it can read."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from jaxsearch.bench.encode_workload import read_encode_workload
from jaxsearch.bench.workload import read_workload
from jaxsearch.data.formats import read_questions
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol.template import read_template
from jaxsearch.rewards.score import score_file
from jaxsearch.search.chunks import ChunkSize
from jaxsearch.search.document_files import chunk_folder
from jaxsearch.search.passages import read_passages
from tests.tokenizer_folders import write_tokenizer


class Reader(NamedTuple):
    """A reader with its files.

    Attributes:
      read: reads them.
      paths: the files.
      refusals: the errors that it may raise.
    """

    read: Callable[[], Any]
    paths: list[Path]
    refusals: tuple[type[BaseException], ...] = (ValueError,)


def write_lines(path: Path, rows: list[Any]) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_table(path: Path, rows: list[list[str]], delimiter: str) -> Path:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_text(text.getvalue())
    return path


FLASHRAG = [
    {
        "id": f"q{n}",
        "question": f"Who is {n}?",
        "golden_answers": ["Ann", "Anne"],
        "metadata": {"supporting_titles": ["Ann"], "hop": 2},
    }
    for n in range(4)
]
HOTPOT = [
    {
        "_id": f"h{n}",
        "question": f"Where is {n}?",
        "answer": "Bern",
        "type": "bridge",
        "supporting_facts": [["Bern", 0], ["Ann", 1]],
        "context": [["Bern", ["Bern is a city."]]],
    }
    for n in range(3)
]
HUB = [
    {
        "id": "a",
        "question": "Who?",
        "answer": "Ann",
        "supporting_facts": {"title": ["Ann", "Bern"], "sent_id": [0, 1]},
        "context": {"title": ["Ann"], "sentences": [["Ann is old."]]},
    },
    {
        "question_id": "t",
        "question": "Where?",
        "answer": {"value": "Bern", "aliases": ["Berne"]},
    },
    {"id": 7, "question": "When?", "possible_answers": '["now", "then"]'},
    {"idx": 0, "question": "Why?", "answer": ["so", "thus"]},
    {
        "id": "m",
        "question": "Which?",
        "answer": "this",
        "answer_aliases": ["that"],
        "paragraphs": [{"title": "T", "is_supporting": True}],
    },
]
VERL = [
    {
        "data_source": "nq",
        "prompt": [{"role": "user", "content": f"Answer. Question: who is {n}?"}],
        "ability": "fact",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann"]}},
        "extra_info": {"split": "train", "index": n},
    }
    for n in range(3)
]
TABLE = [
    ["id", "question", "golden_answers", "metadata"],
    ["a", "Who?", '["Ann", "Anne"]', '{"hop": 1}'],
    ["b", "Where,\nreally?", "Bern", ""],
]


def question_readers(root: Path) -> dict[str, Reader]:
    paths = [
        write_lines(root / "flashrag.jsonl", FLASHRAG),
        write_lines(root / "flashrag.jsonl.gz", FLASHRAG),
        write_json(root / "hotpot.json", HOTPOT),
        write_lines(root / "hub.jsonl", HUB),
        write_parquet(root / "verl.parquet", VERL),
        write_table(root / "table.csv", TABLE, ","),
        write_table(root / "table.tsv", TABLE, "\t"),
    ]

    def reader(path: Path, skip: bool) -> Reader:
        def read():
            found = read_questions(path, skip_bad_rows=skip, note=_note)
            json.dumps([question.metadata for question in found]).encode()
            return [hash(question.id) for question in found]

        return Reader(read, [path])

    return {
        f"questions {path.name}{' skip' * skip}": reader(path, skip)
        for path in paths
        for skip in (False, True)
        if not skip or path.suffix == ".jsonl"
    }


def _note(line: str) -> None:
    assert len(line) < 6000, line[:300]


PASSAGES = [
    *({"id": str(n), "contents": f'"Title {n}"\nText of {n}.'} for n in range(3)),
    {"id": 9, "title": "Ann", "text": "Ann is old."},
]


def corpus_readers(root: Path) -> dict[str, Reader]:
    dpr = [["id", "text", "title"], ["1", "A text.", "Ann"], ["2", "B\n\ttext", "Bern"]]
    (root / "plain.tsv").write_text("1\tAnn is old.\n2\tBern is large.\n")
    (root / "docs").mkdir()
    (root / "docs" / "a.md").write_text("# Title\n\nWords of *a* text.\n\n## More\n\nx")
    (root / "docs" / "b.html").write_text(
        "<html><head><title>B</title></head><body><p>Words &amp; more</p></body></html>"
    )
    (root / "docs" / "c.txt").write_text("Only words.\n\nAnd more of them.\n")
    paths = [
        write_lines(root / "corpus.jsonl", PASSAGES),
        write_lines(root / "corpus.jsonl.gz", PASSAGES),
        write_table(root / "dpr.tsv", dpr, "\t"),
        root / "plain.tsv",
        write_parquet(root / "corpus.parquet", PASSAGES[:3]),
    ]

    def documents():
        out = root / "chunks.jsonl"
        out.unlink(missing_ok=True)
        chunk_folder(root / "docs", out, size=ChunkSize(), note=_note)
        read_passages(out)

    def reader(path: Path) -> Reader:
        def read():
            for passage in read_passages(path, note=_note):
                (passage.id + passage.contents).encode()

        return Reader(read, [path])

    return {
        **{f"corpus {path.name}": reader(path) for path in paths},
        "documents": Reader(documents, sorted((root / "docs").iterdir())),
    }


TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Who is {question}?"},
]


def tokenizer_readers(root: Path) -> dict[str, Reader]:
    folder = root / "tokenizer"
    write_tokenizer(
        folder,
        config={"model_type": "qwen2", "eos_token_id": 258},
        generation={"eos_token_id": [258, 7]},
        chat_template=TEMPLATE,
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)

    def read():
        found = Tokenizer.load(str(folder), model=str(folder))
        found.encode_prompt("Who 12?", MESSAGES)
        found.decode(found.encode("12 \u00e9"))
        _ = found.special_strings, found.special_ids, found.fingerprint
        _ = found.id_ranges, found.keeps_ascii, found.unknown_words("a b")

    paths = sorted(folder.iterdir())
    (root / "prompt.txt").write_text("Who is {question}?\n")
    chat = write_json(root / "prompt.json", MESSAGES)
    return {
        "tokenizer": Reader(read, paths),
        "prompt.txt": Reader(
            lambda: read_template(str(root / "prompt.txt")), [root / "prompt.txt"]
        ),
        "prompt.json": Reader(lambda: read_template(str(chat)), [chat]),
    }


SCORED = [
    {"id": "a", "golden_answers": ["Ann"], "prediction": "Ann", "task": "research"},
    {
        "id": "b",
        "golden_answers": ["Bern"],
        "task": "research",
        "ended": True,
        "segments": [
            {"text": "<think>a</think><search>b</search>", "is_policy": True},
            {"text": "<result>c</result>", "is_policy": False},
            {
                "text": "<think>d</think><answer>\\boxed{Bern}</answer>",
                "is_policy": True,
            },
        ],
        "expected": {"em": 1.0},
    },
    {
        "id": "c",
        "golden_answers": ["x"],
        "task": "r1_searcher_stage2",
        "ended": True,
        "response": "<think>a</think><answer>x</answer>",
    },
]


def score_readers(root: Path) -> dict[str, Reader]:
    path = write_lines(root / "predictions.jsonl", SCORED)
    packed = write_lines(root / "packed.jsonl.gz", SCORED)
    return {
        "score": Reader(
            lambda: json.dumps(score_file(path, "auto", note=_note)), [path]
        ),
        "score gz": Reader(lambda: score_file(packed, "auto", note=_note), [packed]),
    }


def workload_readers(root: Path) -> dict[str, Reader]:
    import jaxsearch

    bench = Path(jaxsearch.__file__).parent / "bench"
    rollout = root / "rollout.json"
    rollout.write_bytes((bench / "workloads" / "quickstart.json").read_bytes())
    encode = root / "encode.json"
    encode.write_bytes(
        (bench / "encode_workloads" / "ragged_lengths.json").read_bytes()
    )
    return {
        "workload": Reader(lambda: read_workload(str(rollout)), [rollout]),
        "encode workload": Reader(lambda: read_encode_workload(str(encode)), [encode]),
    }
