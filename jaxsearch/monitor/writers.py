"""Writers of metrics: to a file, Weights & Biases and TensorBoard.

Steps are counted from 1 over all stages of a run.
"""

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxsearch import json_lines
from jaxsearch.json_types import typed

# A process that is killed loses events of TensorBoard that are younger than this.
_TENSORBOARD_FLUSH_S = 5


@runtime_checkable
class Writer(Protocol):
    """A destination for the metrics of each step."""

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class Writers:
    """A writer that forwards to several writers."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers = tuple(writers)

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.write(step, stage, values)

    def finish(self) -> None:
        """Writes what would be lost when the process is about to end.

        It may be called in another thread than `write`, whose values are no longer
        needed afterwards.
        """
        for writer in self._writers:
            writer.finish()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class JsonlWriter:
    """Appends one JSON object per step, which is flushed before the next step."""

    def __init__(self, path: Path):
        self._path = path

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        json_lines.append_line(self._path, {"step": step, "stage": stage, **values})

    def finish(self) -> None:
        """Does nothing, because each line is on the disk at once."""

    def close(self) -> None:
        """Does nothing, because the file is not kept open between steps."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of `metrics.jsonl` or `eval.jsonl`, with non-finite numbers.

    An incomplete last line, left by a killed run, is ignored.

    Raises:
      ValueError: if any other line is malformed; the message names file and line.
    """
    lines = [json_lines.restored(line) for line in json_lines.read_lines(path)]
    for number, line in enumerate(lines, start=1):
        try:
            _check_line(line)
        except ValueError as error:
            raise ValueError(f"{path}, object {number}: {error}") from None
    return lines


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; [] if there is no file.

    Raises:
      ValueError: see `read_metrics`; also for a line of an evaluation.
    """
    lines = read_metrics(path) if path.exists() else []
    if any("name" in line for line in lines):
        raise ValueError(f"{path}: expected metrics of steps, got an evaluation")
    return lines


def read_evaluations(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `eval.jsonl`; [] if it has none.

    Raises:
      ValueError: see `read_metrics`; also for a line that is not an evaluation.
    """
    path = run_folder / "eval.jsonl"
    lines = read_metrics(path) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if "name" not in line:
            raise ValueError(f"{path}, object {number}: expected a 'name'")
    return lines


def _check_line(line: Any) -> None:
    """Checks the types of a line: an evaluation has a name, else all are numbers.

    Raises:
      ValueError: naming the field.
    """
    fields = {"step": int, "stage": str}
    if "name" in line:
        fields |= {"name": str, "by_hops": dict[str, dict[str, float]]}
        fields |= {"calls_per_question": dict[str, float]}
    for name in ("step", "stage"):
        if name not in line:
            raise ValueError(f"expected a '{name}'")
    for name, value in line.items():
        typed(value, fields.get(name, float), f"{name:.60}")
    for scores in (line, *line.get("by_hops", {}).values()) if "name" in line else ():
        _check_scores(scores)


def _check_scores(fields: dict[str, Any]) -> None:
    n, em = (typed(fields.get(name), float, name) for name in ("n", "em"))
    if not (n >= 1 and 0 <= em <= 1):
        raise ValueError(f"expected n of at least 1 and em in [0, 1], got {n}, {em}")


def cut_back(path: Path, step: int) -> None:
    """Drops the lines after `step` and an incomplete last line, atomically.

    Used by a run that resumes from `step`. A missing file is not an error, because a
    run may have been stopped before its first measurement.
    """
    if not path.exists():
        return
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    json_lines.replace_lines(path, kept)


class WandbWriter:
    """Writes to one Weights & Biases run per run folder, also after resuming.

    The id of the W&B run is stored in the folder's `wandb_id`. In offline mode each
    resumption writes a separate folder under `wandb/`; `wandb sync` joins them by id.

    Args:
      run_folder: the run's folder.
      config: values to show with the run.
      project, entity, name, tags: as in `config.LoggingConfig`; empty for those of the
        environment, or the defaults described there.
      mode: offline writes to the run's folder.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        config: Mapping[str, Any],
        project: str = "",
        entity: str = "",
        name: str = "",
        tags: Sequence[str] = (),
        mode: Literal["offline", "online", "disabled"] = "offline",
    ):
        import wandb

        id_file = run_folder / "wandb_id"
        if not id_file.exists():
            json_lines.replace_file(id_file, secrets.token_hex(4).encode())
        is_online = mode == "online"
        self._run = wandb.init(
            # W&B itself reads WANDB_ENTITY and WANDB_TAGS for what is None.
            project=project or os.environ.get("WANDB_PROJECT", "jaxsearch"),
            entity=entity or None,
            name=name or os.environ.get("WANDB_NAME", run_folder.resolve().name),
            tags=list(tags) or None,
            id=id_file.read_text().strip(),
            # W&B warns about `resume` in offline mode, where it cannot look up the run.
            resume="allow" if is_online else None,
            dir=run_folder,
            config=dict(config),
            mode=mode,
            # W&B's capture of the terminal would break the progress bar.
            settings=wandb.Settings(console="off", silent=not is_online),
        )
        # W&B's own step cannot decrease, but this step does when a run resumes.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, "stage": stage, **values})

    def finish(self) -> None:
        """Does nothing: W&B's own process has the values.

        Its `finish` waits for its server, which may take minutes.
        """

    def close(self) -> None:
        self._run.finish()


class TensorBoardWriter:
    """Writes scalars for TensorBoard to the run folder's `tensorboard/`.

    Args:
      run_folder: the run's folder.
      restored_step: TensorBoard hides older events after this step; 0 for a new run.

    Raises:
      ValueError: if tensorboardX is not installed.
    """

    def __init__(self, run_folder: Path, *, restored_step: int = 0):
        try:
            import tensorboardX
        except ModuleNotFoundError as error:
            raise ValueError(
                "writing for TensorBoard needs tensorboardX: "
                "pip install 'jaxsearch[tensorboard]', or turn TensorBoard off"
            ) from error

        self._events = tensorboardX.SummaryWriter(
            logdir=str(run_folder / "tensorboard"),
            purge_step=restored_step + 1 if restored_step else None,
            flush_secs=_TENSORBOARD_FLUSH_S,
        )
        self._lock = threading.Lock()
        self._is_closed = False

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        with self._lock:
            # A closed one would begin another file, which hides the steps before it.
            if self._is_closed:
                return
            for key, value in values.items():
                self._events.add_scalar(key, value, step)

    def finish(self) -> None:
        """Closes the file, because its own flush leaves out events that are queued."""
        self.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._events.close()
