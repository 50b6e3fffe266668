"""Checkpoints: the state that a run needs to resume."""

import concurrent.futures
import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxsearch import processes
from jaxsearch.rl.update import TrainState
from jaxsearch.run.checkpoint_hashes import write_hashes

# Folder in a run's folder.
CHECKPOINT_FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run after a step.

    Attributes:
      step: steps over all stages.
      stage: index of the stage.
      stage_step: steps within the stage.
      stream: state of the question stream; None in a supervised stage.
    """

    step: int
    stage: int
    stage_step: int
    stream: dict[str, Any] | None

    def after_step(self, *, stream: dict[str, Any] | None) -> "Progress":
        """Progress one step later."""
        return dataclasses.replace(
            self, step=self.step + 1, stage_step=self.stage_step + 1, stream=stream
        )


class Checkpoints:
    """The checkpoints of a run's folder, written in the background.

    The state is copied before `save` returns, so it may be donated right after. When a
    checkpoint is complete, the hashes of its files are added.

    Args:
      folder: the run's folder.
      keep: number of newest checkpoints that are kept.
      keep_every: those whose step is a multiple of this are kept too; 0 for none.
    """

    def __init__(self, folder: Path, *, keep: int, keep_every: int = 0):
        from orbax.checkpoint import v1 as ocp

        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        self._checkpointer = ocp.training.Checkpointer(
            (folder / CHECKPOINT_FOLDER).resolve(),
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )
        self._completing = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None

    def save(self, progress: Progress, state: TrainState) -> None:
        """Saves the state as the checkpoint of `progress.step`."""
        self.wait()
        if jax.default_backend() == "cpu":
            # On a CPU the writer would read the buffers that the next update
            # overwrites; on other devices it copies them to the host.
            state = jax.tree.map(jnp.copy, state)
        response = self._checkpointer.save_checkpointables_async(
            progress.step,
            {"state": state._asdict()},
            custom_metadata=dataclasses.asdict(progress),
            overwrite=True,
        )
        self._writing = self._completing.submit(self._complete, response, progress.step)

    def _complete(self, response: Any, step: int) -> None:
        """Waits until a checkpoint is written, and adds its hashes."""
        response.result()
        if processes.is_primary():
            write_hashes(Path(self._checkpointer.directory) / str(step))

    def latest(self) -> Progress | None:
        """Progress of the newest complete checkpoint, or None."""
        if self._checkpointer.latest is None:
            return None
        # `latest` has no metadata; the step's own record has it.
        step = self._checkpointer.latest.step
        found = self._checkpointer.checkpointables_metadata(step)
        return Progress(**found.custom_metadata)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, with the shardings of `like`.

        Raises:
          ValueError: if the files are damaged or have other shapes.
        """
        path = Path(self._checkpointer.directory) / str(step)
        return TrainState(**_load(path, jax.tree.map(_abstract, like._asdict())))

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, oldest first."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    def wait(self) -> None:
        """Waits until the last checkpoint is written."""
        # Read once: at Ctrl-C another thread waits too.
        writing = self._writing
        if writing is not None:
            writing.result()
            self._writing = None

    def close(self) -> None:
        """Waits for the checkpoint being written, then closes the writer."""
        self.wait()
        self._completing.shutdown()
        self._checkpointer.close()


def are_finite(params: Any) -> bool:
    """Whether every number in every array is finite."""
    return bool(_are_finite(params))


@jax.jit
def _are_finite(params: Any) -> Bool[Array, ""]:
    parts = [jnp.isfinite(one).all() for one in jax.tree.leaves(params)]
    return jnp.all(jnp.stack(parts))


def restore_params(checkpoint: Path, wanted: Any) -> Any:
    """The parameters in a checkpoint, for evaluation and export.

    Args:
      checkpoint: folder of the checkpoint.
      wanted: shape, dtype and sharding of each parameter.

    Raises:
      ValueError: if the files are damaged or have other shapes.
    """
    return restore_parts(checkpoint, {"params": wanted})["params"]


def restore_parts(checkpoint: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Some fields of the TrainState in a checkpoint.

    Args:
      checkpoint: folder of the checkpoint.
      wanted: shape, dtype and sharding of each array, by field.

    Raises:
      ValueError: if the files are damaged or have other shapes.
    """
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        return _load(checkpoint.resolve(), wanted)


def _load(checkpoint: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    from orbax.checkpoint import v1 as ocp

    try:
        with _without_late_reads():
            return ocp.load_checkpointables(checkpoint, {"state": wanted})["state"]
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"checkpoint {checkpoint} cannot be read: {reason}; remove it to use the "
            "previous one"
        ) from error


@contextlib.contextmanager
def _without_late_reads() -> Iterator[None]:
    """Prints nothing of the reads that end after a load has failed.

    Orbax closes its event loop at the first array that cannot be read. The reads in
    progress then fail one by one, and Python prints a traceback for each of hundreds.
    They end at any later time, so the hook stays after an error.
    """
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if not _is_late_read(unraisable):
            shown(unraisable)

    sys.unraisablehook = show
    yield
    sys.unraisablehook = shown


def _is_late_read(unraisable: Any) -> bool:
    """Whether a read could not report to a closed loop, or is discarded with it."""
    if inspect.iscoroutine(unraisable.object):
        return "orbax" in Path(unraisable.object.cr_code.co_filename).parts
    error = unraisable.exc_value
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def saved_steps(folder: Path) -> list[int]:
    """Steps with a checkpoint in a folder, oldest first.

    Reads only names of folders, because it is called while another thread writes: an
    unfinished checkpoint has another name.
    """
    names = (path.name for path in folder.glob("*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def newest_step(run_folder: Path) -> int | None:
    """Step of the newest checkpoint of a run; None if there is none."""
    return max(saved_steps(run_folder / CHECKPOINT_FOLDER), default=None)


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
