"""A file of the questions whose answer a search finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import flashrag_line
from jaxsearch.json_lines import replace_lines
from jaxsearch.local_paths import check_local
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.index import Retriever
from jaxsearch.search.indexes import load_index
from jaxsearch.search.question_recall import SearchQuestion
from jaxsearch.search.readable import readable


def write_readable(
    folder: str,
    path: str,
    out: str,
    *,
    num_passages: int,
    num_words: int,
    encoder: Encoder | EncoderFactory | None = None,
    wrap: Callable[[Retriever], Retriever] = lambda index: index,
) -> dict[str, Any]:
    """Writes the questions of a file that are `readable`; returns their number.

    Args:
      folder: the index.
      path: questions with golden answers.
      out: file to write, a new one.
      num_passages, num_words: as in `readable`.
      encoder: the encoder, if the index was built with one given by value.
      wrap: makes the retriever that is asked from the index.

    Raises:
      ValueError: if the index or the questions cannot be read, a number is out of
        range, the file exists, its folder does not or its name is not *.jsonl, or no
        question is left.
    """
    check_local(out, "--out")
    if not out.endswith(".jsonl"):
        # Readers of questions know the format by the name.
        raise ValueError(f"--out {out}: questions are written to a file named *.jsonl")
    if Path(out).exists():
        raise ValueError(f"--out {out} exists; name a new file")
    if not Path(out).parent.is_dir():
        raise ValueError(f"--out {out}: there is no such folder; create it")
    questions = read_questions(path)
    is_readable = readable(
        wrap(load_index(folder, encoder=encoder)),
        [
            SearchQuestion(question=one.question, golden_answers=one.golden_answers)
            for one in questions
        ],
        num_passages=num_passages,
        num_words=num_words,
    )
    pairs = zip(questions, is_readable, strict=True)
    kept = [flashrag_line(one) for one, is_kept in pairs if is_kept]
    if not kept:
        raise ValueError(
            f"no answer of the {len(questions)} questions in {path} can be read in "
            f"what {folder} finds; take more passages (-k) or words (--words), or "
            "check that corpus and questions belong together"
        )
    replace_lines(Path(out), kept)
    return {"out": out, "n": len(questions), "kept": len(kept)}
