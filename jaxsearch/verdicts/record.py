"""The file of verdicts: one line per prediction, appended as verdicts arrive."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.verdicts.predictions import Prediction
from jaxsearch.verdicts.verdict import VERDICTS, Opinion, Verdict


class VerdictFile:
    """A file that verdicts are appended to; it continues where it ended.

    An incomplete last line, left by a killed command, is removed.

    Args:
      path: the file; created if needed.
      model: name of the model that gives the verdicts.
      keys: the key of each prediction, by line number.

    Attributes:
      verdicts: the recorded verdicts, by line number of the prediction; None for a
        reply without a verdict.

    Raises:
      ValueError: if the file has lines of other predictions, another model or prompt.
    """

    def __init__(self, path: Path, model: str, keys: Mapping[int, str]):
        self.verdicts: dict[int, Verdict | None] = {}
        self._model = model
        self._keys = keys
        lines = json_lines.read_lines(path) if path.exists() else []
        for number, line in enumerate(lines, start=1):
            asked, verdict = line.get("line"), line.get("verdict")
            if verdict not in (*VERDICTS, None) or keys.get(asked) != line.get("key"):
                raise ValueError(
                    f"{path}, line {number}: not the verdict of this model with this "
                    "prompt on a prediction of this file; choose another file with "
                    "--out"
                )
            self.verdicts[asked] = verdict
        json_lines.replace_lines(path, lines)
        self._file = path.open("a", encoding="utf-8")

    def add(self, prediction: Prediction, opinion: Opinion) -> None:
        """Appends a verdict; it survives if the process is killed."""
        line: dict[str, Any] = {
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
        self._file.write(json_lines.encode(line) + "\n")
        self._file.flush()
        self.verdicts[prediction.line] = opinion.verdict

    def close(self) -> None:
        """Syncs the file to disk."""
        os.fsync(self._file.fileno())
        self._file.close()
