"""A readable error when memory runs out in an update."""

import contextlib
import math
from typing import Any

import jax

from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.mesh import row_multiple
from jaxsearch.models.adapters import split
from jaxsearch.rl.batching import num_batch_rows
from jaxsearch.rollouts.memory import bytes_text, explain_out_of_memory
from jaxsearch.run.build import Run
from jaxsearch.run.updates import max_batch_tokens


def explain_update(run: Run, number: int) -> contextlib.AbstractContextManager[None]:
    """Context in which an out-of-memory error names settings that help.

    Args:
      run: the run.
      number: index of the stage.

    Raises:
      OutOfMemoryError: instead of XLA's or NumPy's error.
    """
    return explain_out_of_memory(lambda asked: _line(run, number, asked))


def _line(run: Run, number: int, asked: int | None) -> str:
    stage = run.config.stages[number]
    row_len, multiple = run.row_lens[-1], row_multiple(run.mesh)
    num_rows = num_batch_rows(max_batch_tokens(run, stage), row_len, multiple)
    mesh = " x ".join(f"{axis}={size}" for axis, size in run.mesh.shape.items())
    asked_for = f", which asked for {bytes_text(asked)} more" if asked else ""
    advice = []
    if num_rows > multiple:
        fewer = num_rows // multiple // 2 * multiple * row_len
        advice.append(f"lower --stages.{number}.max-tokens, for example to {fewer}")
    if not run.config.model.remat:
        advice.append("set --model.remat True")
    advice.append("use more devices (--mesh.fsdp shares parameters and rows)")
    state = bytes_text(_state_bytes(run, stage))
    return (
        f"memory ran out in the update of stage {stage.name!r}{asked_for}: "
        f"microbatches of up to {num_rows} x {row_len} tokens (max_tokens "
        f"{stage.max_tokens}) in addition to {state} per device of parameters, "
        f"gradients and optimizer, on a mesh {mesh}; {', or '.join(advice)}; the same "
        "command with that continues after the last checkpoint"
    )


def _state_bytes(run: Run, stage: SupervisedStage | RLStage) -> int:
    """Bytes per device of all parameters, and of gradients and optimizer in float32."""
    shapes = run.transformer.shapes
    _, trained = split(run.transformer.lora, shapes)
    has_reference = isinstance(stage, RLStage) and stage.needs_reference
    # A gradient and Adam's two moments.
    num_copies = 3 + has_reference
    num_values = _num_values(shapes) + num_copies * _num_values(trained)
    return 4 * num_values // (run.mesh.shape["fsdp"] * run.mesh.shape["tensor"])


def _num_values(shapes: Any) -> int:
    return sum(math.prod(one.shape) for one in jax.tree.leaves(shapes))
