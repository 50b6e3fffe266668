"""Which checkpoint of a run evaluation and export use: the best, the last, a step."""

import dataclasses
from pathlib import Path

from jaxsearch.config import RunConfig
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run.best_checkpoint import BEST_FOLDER
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER

# Greedy evaluations on held-out questions during and after RL, in `eval.jsonl`.
RANKED = ("heldout", "after_rl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointChoice:
    """A checkpoint of a run.

    Attributes:
      folder: the checkpoint's folder.
      step: its step, counted over all stages.
      description: the step, its held-out exact match, and how the best and the last
        checkpoint compare.
    """

    folder: Path
    step: int
    description: str


def choose_checkpoint(config: RunConfig, which: str = "") -> CheckpointChoice:
    """The checkpoint of a run that an argument names.

    Args:
      config: config of the run, with its folder as `out`.
      which: best, last, or a step; "" for the best if there is one, else the last.

    Raises:
      ValueError: if there is no such checkpoint.
    """
    run = Path(config.out)
    whole, best = _steps(run / CHECKPOINT_FOLDER), _steps(run / BEST_FOLDER)
    if not whole and not best:
        raise ValueError(f"{run} has no checkpoint yet")
    if which in ("best", "last"):
        steps = {"best": best, "last": whole}[which]
        if not steps:
            raise ValueError(
                f"{run} has no {which} checkpoint{_WHY_NONE[which]}; "
                f"{_available(whole, best)}"
            )
        step = steps[-1]
    elif not which:
        step = (best or whole)[-1]
    else:
        if not which.isdecimal():
            raise ValueError(f"--checkpoint must be best, last or a step; got {which}")
        step = int(which)
        if step not in (*whole, *best):
            raise ValueError(
                f"{run} has no checkpoint of step {step}; {_available(whole, best)}"
            )
    return CheckpointChoice(
        folder=run / (BEST_FOLDER if step in best else CHECKPOINT_FOLDER) / str(step),
        step=step,
        description=_description(config, step, whole, best),
    )


_WHY_NONE = {
    "best": ": it was not evaluated on held-out questions during RL",
    "last": " yet",
}


def _steps(folder: Path) -> list[int]:
    """The steps with a complete checkpoint; incomplete ones have other names."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _available(whole: list[int], best: list[int]) -> str:
    named = {step: str(step) for step in (*best, *whole)}
    if best:
        named[best[-1]] += " (best)"
    return f"--checkpoint can be {', '.join(named[step] for step in sorted(named))}"


def _description(
    config: RunConfig, step: int, whole: list[int], best: list[int]
) -> str:
    """For example "step 120 of 150, held-out EM 0.965, the best of 15; ..."."""
    path = Path(config.out) / "eval.jsonl"
    lines = read_metrics(path) if path.exists() else []
    em = {line["step"]: line["em"] for line in lines if line["name"] in RANKED}
    num_steps = sum(config.num_steps(stage) for stage in config.stages)
    text = f"step {step} of {num_steps}"
    if step in em:
        text += f", held-out EM {em[step]:.3f}"
    if best and step == best[-1] and len(em) > 1:
        text += f", the best of {len(em)}"
    others = [("the best", best[-1:]), ("the last one", whole[-1:])]
    for name, steps in others:
        if steps and steps[0] != step and steps[0] in em:
            text += f"; {name} (step {steps[0]}) has {em[steps[0]]:.3f}"
    return text
