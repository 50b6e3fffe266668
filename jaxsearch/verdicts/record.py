"""The file of verdicts: one line per prediction, appended as verdicts arrive."""

import fcntl
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TextIO

from jaxsearch import json_lines
from jaxsearch.try_again import TryAgainError
from jaxsearch.verdicts.predictions import Prediction
from jaxsearch.verdicts.verdict import VERDICTS, Opinion, Verdict


class VerdictFile:
    """A file that verdicts are appended to; it continues where it ended.

    An incomplete last line, left by a killed command, is removed. Verdicts follow their
    predictions, if these have other line numbers than before: an evaluation that asks
    again for missing answers writes them in between. The file is locked until `close`.

    Args:
      path: the file; created if needed.
      model: name of the model that gives the verdicts.
      predictions: the predictions.
      keys: the key of each prediction, by line number.

    Attributes:
      verdicts: the recorded verdicts, by line number of the prediction; None for a
        reply without a verdict.

    Raises:
      ValueError: if the file has lines of other predictions, another model or prompt,
        or its name ends in .gz.
      TryAgainError: if another process appends to the file.
    """

    def __init__(
        self,
        path: Path,
        model: str,
        predictions: Sequence[Prediction],
        keys: Mapping[int, str],
    ):
        if path.suffix == ".gz":
            # Lines appended to compressed data could not be read again.
            raise ValueError(
                f"{path}: verdicts are appended to a file that is not compressed; "
                "choose a name without .gz with --out"
            )
        self._model = model
        self._keys = keys
        self._file = _locked(path)
        try:
            lines = self._lines(path, predictions)
            # Rewritten only if need be: the new file has to be locked, and read, anew.
            while json_lines.encode_lines(lines) != path.read_bytes():
                json_lines.replace_lines(path, lines)
                self._file.close()
                self._file = _locked(path)
                lines = self._lines(path, predictions)
        except BaseException:
            self._file.close()
            raise
        self.verdicts: dict[int, Verdict | None] = {
            line["line"]: line.get("verdict") for line in lines
        }

    def _lines(
        self, path: Path, predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """The lines of the file, with the line numbers of these predictions."""
        lines = json_lines.read_lines(path)
        found = _opinions(lines, path, frozenset(self._keys.values()))
        if all(self._keys.get(line["line"]) == line["key"] for line in lines):
            return lines
        return [
            self._line(one, found[self._keys[one.line]])
            for one in predictions
            if self._keys[one.line] in found
        ]

    def add(self, prediction: Prediction, opinion: Opinion) -> None:
        """Appends a verdict; it survives if the process is killed."""
        line = self._line(prediction, opinion)
        self._file.write(json_lines.encode(line) + "\n")
        self._file.flush()
        self.verdicts[prediction.line] = opinion.verdict

    def _line(self, prediction: Prediction, opinion: Opinion) -> dict[str, Any]:
        return {
            "line": prediction.line,
            "id": prediction.id,
            "question": prediction.question,
            "golden_answers": list(prediction.golden_answers),
            "prediction": prediction.prediction,
            "verdict": opinion.verdict,
            "reason": opinion.reason,
            "model": self._model,
            "key": self._keys[prediction.line],
        }

    def close(self) -> None:
        """Syncs the file to disk."""
        os.fsync(self._file.fileno())
        self._file.close()


def _locked(path: Path) -> TextIO:
    """The file, open for appending and locked; created if needed.

    Raises:
      TryAgainError: if another process holds the lock.
    """
    while True:
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have replaced it since it was opened.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            raise TryAgainError(
                f"another process writes verdicts to {path}; wait for it, or choose "
                "another file with --out"
            ) from None
        file.close()


def _opinions(
    lines: Sequence[Mapping[str, Any]], path: Path, keys: Set[str]
) -> dict[str, Opinion]:
    """The verdicts of the lines, by their keys.

    Raises:
      ValueError: if a line has another key, or is not a verdict.
    """
    found = {}
    for number, line in enumerate(lines, start=1):
        key, verdict, asked = line.get("key"), line.get("verdict"), line.get("line")
        is_verdict = verdict in (*VERDICTS, None) and isinstance(asked, int)
        if not (is_verdict and isinstance(key, str) and key in keys):
            raise ValueError(
                f"{path}, line {number}: not the verdict of this model with this "
                "prompt on a prediction of this file; move it away (the cache keeps "
                "its verdicts), or choose another file with --out"
            )
        found[key] = Opinion(verdict, str(line.get("reason", "")))
    return found
