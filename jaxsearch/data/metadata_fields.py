"""Metadata of a record: what training does not need, and is left out if malformed."""

import json
from typing import Any

from jaxsearch.data.fields import Record
from jaxsearch.json_files import json_value

# Columns that readers use under other names, and those of published datasets that are
# large or say nothing about the question; any other column is metadata.
_OTHERS = frozenset(
    {
        *("id", "_id", "idx", "question_id", "question", "metadata"),
        *("golden_answers", "answer", "answer_aliases", "possible_answers"),
        # HotpotQA and 2WikiMultiHopQA, MuSiQue, TriviaQA, R1-Searcher.
        *("type", "level", "supporting_facts", "context"),
        *("evidences", "evidences_id", "entity_ids", "answer_id"),
        *("paragraphs", "question_decomposition", "answerable"),
        *("question_source", "entity_pages", "search_results", "gen_text_store"),
        # verl, as ReSearch and Search-R1 write it.
        *("data_source", "prompt", "ability", "reward_model", "extra_info"),
        *("split", "index"),
    }
)

# Metadata fields that describe a question's passages.
_PASSAGES = frozenset({"context", "paragraphs", "supporting_facts"})


def metadata(record: Record) -> dict[str, Any]:
    """The metadata of a question; malformed fields are counted in `record.left_out`.

    It includes the columns of its row that belong to no layout, and in verl's layout
    those of `extra_info`.
    """
    found = _of_layout(record)
    if "reward_model" in record.fields:
        extra = record.fields.get("extra_info")
        found = _own_columns(record, extra if isinstance(extra, dict) else {}) | found
    return _own_columns(record, record.fields) | found


def _own_columns(record: Record, fields: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in fields.items() if name not in _OTHERS}
    for name in [name for name, value in own.items() if not _is_json({name: value})]:
        record.left_out[name] += 1
        del own[name]
    return own


def _of_layout(record: Record) -> dict[str, Any]:
    """The metadata that the layout of a record has."""
    fields = record.fields
    if "reward_model" in fields:
        is_named = "data_source" in fields
        found = {"dataset": fields["data_source"]} if is_named else {}
    elif "golden_answers" in fields:
        found = _of_flashrag(record.part("metadata"))
    else:
        found = {name: fields[name] for name in ("type", "level") if name in fields}
        titles = _supporting_titles(record)
        if titles is not None:
            found["supporting_titles"] = list(dict.fromkeys(titles))
    if not _is_json(found):
        record.left_out["metadata"] += 1
        return {}
    return found


def _of_flashrag(record: Record) -> dict[str, Any]:
    """FlashRAG's metadata, with titles in place of the passages of a question.

    FlashRAG's HotpotQA and 2WikiMultiHopQA files have ten passages per question, which
    are nine tenths of the file.
    """
    found = {name: v for name, v in record.fields.items() if name not in _PASSAGES}
    if len(found) < len(record.fields) and "supporting_titles" not in found:
        titles = _supporting_titles(record)
        if titles is not None:
            found["supporting_titles"] = list(dict.fromkeys(titles))
    return found


def _supporting_titles(record: Record) -> list[str] | None:
    """Titles of the pages that answer the question; None if they are not known."""
    for name, titles_in in (
        ("supporting_facts", _titles_of_facts),
        ("paragraphs", _titles_of_paragraphs),
    ):
        value = record.fields.get(name)
        if value is None:
            continue
        titles = titles_in(_decoded(value))
        if titles is not None and all(isinstance(title, str) for title in titles):
            return titles
        record.left_out[name] += 1
    return None


def _titles_of_facts(facts: Any) -> list[Any] | None:
    """First items of [title, sentence] pairs, or the titles of an object of lists."""
    if isinstance(facts, list) and all(isinstance(fact, list) for fact in facts):
        return [fact[0] if fact else None for fact in facts]
    rows = _rows(facts)
    return None if rows is None else [row.get("title") for row in rows]


def _titles_of_paragraphs(paragraphs: Any) -> list[Any] | None:
    rows = _rows(paragraphs)
    if rows is None:
        return None
    return [row.get("title") for row in rows if row.get("is_supporting")]


def _rows(value: Any) -> list[dict[str, Any]] | None:
    """A list of objects, also from an object of equally long lists; None otherwise."""
    if isinstance(value, list):
        return value if all(isinstance(row, dict) for row in value) else None
    if not isinstance(value, dict):
        return None
    columns = list(value.values())
    if not all(isinstance(column, list) for column in columns):
        return None
    if len({len(column) for column in columns}) > 1:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _decoded(value: Any) -> Any:
    """The value that a JSON text stands for; any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json_value(value)
    except ValueError:
        return None


def _is_json(value: Any) -> bool:
    """Whether a value can be written as JSON and holds only valid text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True
