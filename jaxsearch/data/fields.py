"""Fields of a record, checked when they are read."""

import dataclasses
import reprlib
from collections import Counter
from typing import Any

from jaxsearch.bad_rows import BadRowError
from jaxsearch.surrogates import check_text

_TEXT = "a non-empty string"
_TEXTS = "a list of non-empty strings, at least one"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON object, and its location in a file.

    Attributes:
      number: number of its line, item or row.
      where: its location, for error messages.
      fields: the object.
      left_out: number of records by field that is malformed, not needed, and therefore
        left out; shared by the records of a file.
      empty_answers: location and text of each golden answer that is empty once
        normalised; also shared.
    """

    number: int
    where: str
    fields: dict[str, Any]
    left_out: Counter[str]
    empty_answers: list[tuple[str, str]]

    def require(self, name: str) -> Any:
        """The value of a field.

        Raises:
          BadRowError: if the field is missing.
        """
        if name not in self.fields:
            raise BadRowError(
                f"{self.where}: expected a field `{name}`, "
                f"got the fields {reprlib.repr(sorted(self.fields))}"
            )
        return self.fields[name]

    def wrong(self, name: str, expected: str, value: object) -> BadRowError:
        """The error for a value that is not the expected one."""
        return BadRowError(
            f"{self.where}: `{name}` must be {expected}, got {reprlib.repr(value)}"
        )

    def text(self, name: str) -> str:
        """A text that is needed.

        Raises:
          BadRowError: if it is missing, blank or not valid text.
        """
        value = self.require(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, _TEXT, value)
        return self.valid(name, value)

    def texts(self, name: str) -> list[str]:
        """A list of texts that is needed, or a single one; nulls are skipped.

        Raises:
          BadRowError: if there is no text, or something else in the list.
        """
        value = self.require(name)
        if isinstance(value, str):
            return [self.text(name)]
        if not isinstance(value, list):
            raise self.wrong(name, f"{_TEXT} or {_TEXTS}", value)
        found = [item for item in value if item is not None]
        if any(isinstance(item, list) for item in found):
            raise self.wrong(
                name,
                f"{_TEXT} or {_TEXTS} (in a nested list it is not clear whether one "
                "answer is enough: write one flat list of those that are)",
                value,
            )
        if not all(isinstance(item, str) for item in found) or not "".join(found):
            raise self.wrong(name, _TEXTS, value)
        return [self.valid(name, item) for item in found]

    def valid(self, name: str, text: str) -> str:
        """The text of a field.

        Raises:
          BadRowError: if it contains half of a surrogate pair.
        """
        try:
            check_text(text, f"{self.where}: `{name}`")
        except ValueError as error:
            raise BadRowError(str(error)) from None
        return text

    def id(self, *names: str) -> str | None:
        """The id in the first of these fields that has one; None if none has.

        An integer becomes its decimal text; a value of another kind is left out.
        """
        for name in names:
            value = self.fields.get(name)
            # isinstance would accept a bool as an int.
            if type(value) is int:
                return str(value)
            if isinstance(value, str) and value.strip():
                return self.valid(name, value)
            if value is not None:
                self.left_out[name] += 1
        return None

    def part(self, name: str) -> "Record":
        """The object in a field that is not needed; empty if there is none."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, dict):
            self.left_out[name] += 1
        return dataclasses.replace(
            self, fields=value if isinstance(value, dict) else {}
        )
