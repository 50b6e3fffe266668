"""Where a step's numbers go: a file, Weights & Biases, TensorBoard.

Steps count from 1 over the whole run, through all of its stages.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxsearch import json_lines


@runtime_checkable
class Writer(Protocol):
    """Somewhere to put a step's numbers."""

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Writers:
    """Several writers as one."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers = tuple(writers)

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.write(step, stage, values)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class JsonlWriter:
    """Appends one object a step; each is on disk before the next step begins."""

    def __init__(self, path: Path):
        self._path = path

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        json_lines.append_line(self._path, {"step": step, "stage": stage, **values})

    def close(self) -> None:
        """Nothing is held open between steps."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` or `eval.jsonl`, non-finite numbers included.

    A last line that a killed run left unfinished is left out; any other malformed
    line is a ValueError that names the file and the line.
    """
    lines = [json_lines.restored(line) for line in json_lines.read_lines(path)]
    for number, line in enumerate(lines, start=1):
        if not isinstance(line.get("step"), int):
            raise ValueError(f"{path}, object {number}: expected an integer 'step'")
    return lines


def cut_back(path: Path, step: int) -> None:
    """Drops the lines after `step`, and a torn last one, or leaves the file whole.

    For a run that resumes: `step` is the restored one. No file is no error: a run
    may have been stopped before it measured anything.
    """
    if not path.exists():
        return
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    json_lines.replace_lines(path, kept)


class WandbWriter:
    """One Weights & Biases run for one run folder, resumed or not.

    The id is kept in the folder's `wandb_id`. Offline, every resumption leaves a
    folder of its own under `wandb/`; `wandb sync` joins them by that id.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        config: Mapping[str, Any],
        project: str = "jaxsearch",
        mode: Literal["offline", "online", "disabled"] = "offline",
    ):
        import wandb

        id_file = run_folder / "wandb_id"
        if not id_file.exists():
            json_lines.replace_file(id_file, secrets.token_hex(4).encode())
        is_online = mode == "online"
        self._run = wandb.init(
            project=project,
            name=run_folder.resolve().name,
            id=id_file.read_text().strip(),
            # Offline there is no run to ask for, and W&B warns when asked.
            resume="allow" if is_online else None,
            dir=run_folder,
            config=dict(config),
            mode=mode,
            # W&B's capture of the terminal would break the progress bar.
            settings=wandb.Settings(console="off", silent=not is_online),
        )
        # W&B's own step may not go back, ours does when a run resumes.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, "stage": stage, **values})

    def close(self) -> None:
        self._run.finish()


class TensorBoardWriter:
    """Scalars for TensorBoard in the run folder's `tensorboard/`.

    Args:
      restored_step: what TensorBoard has after this step is hidden; 0 for a new run.
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
        )

    def write(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._events.add_scalar(key, value, step)

    def close(self) -> None:
        self._events.close()
