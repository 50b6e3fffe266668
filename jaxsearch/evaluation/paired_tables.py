"""The tables of two evaluations, limited to their common questions and metrics."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsearch.evaluation.answer_table import Table, read_answers

# Metrics that are compared.
_SYSTEMS = ("", "research/", "r1_searcher/")
_COMPARED = (
    *(f"{system}{name}" for system in _SYSTEMS for name in ("em", "f1", "cover_em")),
    *("searches", "tokens", "out_of_length", "search_failed"),
    *("answer_read", "titles_read"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """The metrics of one evaluation, for the questions that both have.

    Attributes:
      totals: sum of each metric over the answers to a question, [Q, M].
      weights: number of these answers that have the metric, [Q, M].
      columns: names of the metrics.
      num_others: number of questions that only this evaluation has.
    """

    totals: np.ndarray
    weights: np.ndarray
    columns: tuple[str, ...]
    num_others: int


class PairedSet(NamedTuple):
    """A set of questions in two evaluations, in which its name may differ."""

    names: tuple[str, str]
    first: Side
    second: Side


def paired_sets(first: str | Path, second: str | Path) -> Iterator[PairedSet]:
    """Yields the sets that two evaluations have in common.

    Args:
      first, second: folders of evaluations, or files of predictions.

    Raises:
      ValueError: if they have no common question, or an id has different questions.
    """
    tables = [_tables(_file(path)) for path in (first, second)]
    for one, other in _shared_names(*tables, first, second):
        pair = _aligned(tables[0][one], tables[1][other], first, second)
        yield PairedSet((one, other), *pair)


def _file(path: str | Path) -> Path:
    """The file of predictions of a folder.

    Raises:
      ValueError: if there is none.
    """
    path = Path(path)
    file = path / "predictions.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{path}: expected the folder of an evaluation, or a file of predictions; "
            f"there is no {file}"
        )
    return file


def _tables(file: Path) -> dict[str, Table]:
    answers = read_answers(file)
    if not answers:
        raise ValueError(f"{file} is empty; expected lines of predictions")
    return {name: one.table() for name, one in answers.items()}


def _shared_names(
    first: Mapping[str, Table],
    second: Mapping[str, Table],
    first_path: str | Path,
    second_path: str | Path,
) -> list[tuple[str, str]]:
    """Pairs the names of sets; if both have only one set, their names may differ.

    Raises:
      ValueError: if they have no common set.
    """
    if len(first) == len(second) == 1:
        return [(next(iter(first)), next(iter(second)))]
    shared = [(name, name) for name in first if name in second]
    if not shared:
        raise ValueError(
            f"{first_path} and {second_path} have no set of questions in common: "
            f"{', '.join(map(repr, first))} and {', '.join(map(repr, second))}"
        )
    return shared


def _aligned(
    first: Table, second: Table, first_path: str | Path, second_path: str | Path
) -> tuple[Side, Side]:
    """Both tables, limited to their common questions and metrics, in the same order.

    Raises:
      ValueError: if there is no such question, or an id has different questions.
    """
    shared = [id_ for id_ in first.questions if id_ in second.questions]
    if not shared:
        raise ValueError(
            f"{first_path} and {second_path} have no question in common, such as "
            f"{next(iter(first.questions))!r:.80} and "
            f"{next(iter(second.questions))!r:.80}"
        )
    for id_ in shared:
        texts = (first.questions[id_], second.questions[id_])
        if texts[0] != texts[1] and all(texts):
            raise ValueError(
                f"question {id_!r:.80} is {texts[0]!r:.80} in {first_path}, but "
                f"{texts[1]!r:.80} in {second_path}; compare evaluations of the same "
                "questions"
            )
    tables = (first, second)
    orders = [{id_: row for row, id_ in enumerate(t.questions)} for t in tables]
    rows = [[order[id_] for id_ in shared] for order in orders]
    # A figure may be of other questions alone.
    columns = tuple(
        c
        for c in _COMPARED
        if all(
            c in table.columns and table.weights[some, table.columns.index(c)].any()
            for table, some in zip(tables, rows, strict=True)
        )
    )
    sides = []
    for table, some in zip(tables, rows, strict=True):
        chosen = [table.columns.index(name) for name in columns]
        sides.append(
            Side(
                totals=table.totals[some][:, chosen],
                weights=table.weights[some][:, chosen],
                columns=columns,
                num_others=len(table.questions) - len(shared),
            )
        )
    return sides[0], sides[1]
