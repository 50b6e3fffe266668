"""`jaxsearch replay`: finds what was not finite in an update that a run skipped."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import Command
from jaxsearch.visible import visible

if TYPE_CHECKING:
    from jaxsearch.run.replay import Replay

_DESCRIPTION = """\
Runs again an update whose gradient was not finite (NaN or infinite), with the same
parameters and batch. Shows which quantities are not finite, in the order of their
computation: parameters, inputs of the batch, log-probs, ratios, loss per token, terms
of the loss, and the gradient of each parameter. Writes nothing.

A run skips such an update, prints a line, and keeps it in RUN/non_finite/step_N, up to
--checkpoint.keep-non-finite updates. After --stages.N.max-skipped in a row it stops.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
example:
  jaxsearch replay runs/mine/non_finite/step_000012

Read the table from the top: the first line with NaN or infinite values is the cause,
and those below follow from it. If the loss is finite and only gradients are not, a
function in the loss has an infinite derivative.
"""
    parser.add_argument(
        "batch", metavar="BATCH", help="folder of the update: RUN/non_finite/step_N"
    )
    parser.add_argument(
        "--all", action="store_true", help="also show the finite quantities"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    from jaxsearch.run.replay import conclusion, replay

    found = replay(Path(args.batch))
    if args.json:
        return {
            "step": found.update.step,
            "stage": found.stage_name,
            "not_finite": [
                {
                    "name": one.name,
                    "values": one.num_values,
                    "nan": one.num_nan,
                    "infinite": one.num_infinite,
                }
                for one in found.non_finite
            ],
            "conclusion": conclusion(found),
        }
    print(visible("\n".join([*_lines(found, args.all), conclusion(found)])))
    return {}


def _lines(found: "Replay", shows_all: bool) -> list[str]:
    """The update, and a table of its quantities."""
    update = found.update
    shapes = " + ".join("x".join(map(str, b.tokens.shape)) for b in update.batches)
    num_tokens = sum(int(batch.loss_mask.sum()) for batch in update.batches)
    lines = [
        f"step {update.step}, stage {found.stage_name}: {shapes} tokens, of which "
        f"{num_tokens} count in the loss; in the run, loss "
        f"{update.metrics['loss']:.4g} and norm of the gradient "
        f"{update.metrics['grad_norm']:.4g}"
    ]
    shown = found.quantities if shows_all else found.non_finite
    if shown:
        width = max(len(one.name) for one in shown)
        head = f"{'':{width}}  {'values':>10}  {'NaN':>10}  {'infinite':>10}"
        lines.append(f"{head}  {'largest finite':>14}")
        for one in shown:
            counts = (one.num_values, one.num_nan, one.num_infinite)
            numbers = "  ".join(f"{count:>10}" for count in counts)
            lines.append(f"{one.name:{width}}  {numbers}  {one.largest:>14.4g}")
    first = next((one for one in found.non_finite if one.first), None)
    if first is not None:
        number, row, position = first.first
        lines.append(
            f"the first token with {first.name} that is not finite: microbatch "
            f"{number}, row {row}, position {position}, {found.token!r}"
        )
    return lines


COMMAND = Command(
    summary="find what was not finite in an update that a run skipped",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
