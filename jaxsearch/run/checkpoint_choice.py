"""Which checkpoint of a run evaluation and export use: the best, the last, a step."""

import dataclasses
from pathlib import Path

from jaxsearch.config import RunConfig
from jaxsearch.monitor.writers import read_evaluations
from jaxsearch.run.best_checkpoint import BEST_FOLDER
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER, saved_steps
from jaxsearch.run.checkpoint_damage import damage

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
      notice: which damaged checkpoints would have been used instead; "" for none.
    """

    folder: Path
    step: int
    description: str
    notice: str


def choose_checkpoint(config: RunConfig, which: str = "") -> CheckpointChoice:
    """The checkpoint of a run that an argument names.

    If its files are damaged, the one before it is used, unless its step was named.

    Args:
      config: config of the run, with its folder as `out`.
      which: best, last, or a step; "" for the best if there is one, else the last.

    Raises:
      ValueError: if there is no such checkpoint, or only damaged ones.
    """
    run = Path(config.out)
    whole = saved_steps(run / CHECKPOINT_FOLDER)
    best = saved_steps(run / BEST_FOLDER)
    damaged: dict[Path, str] = {}
    for folder in _candidates(run, which, whole, best):
        is_whole = folder.parent.name == CHECKPOINT_FOLDER
        if reason := damage(folder, has_progress=is_whole):
            damaged[folder] = reason
            (whole if is_whole else best).remove(int(folder.name))
            continue
        step = int(folder.name)
        return CheckpointChoice(
            folder=folder,
            step=step,
            description=_description(config, step, whole, best),
            notice=f"{_damage(damaged)}; step {step} is used" if damaged else "",
        )
    raise ValueError(
        f"{_damage(damaged)}; "
        + (_available(whole, best) if whole or best else "no other checkpoint is left")
    )


def _candidates(run: Path, which: str, whole: list[int], best: list[int]) -> list[Path]:
    """Folders of the checkpoints that an argument may mean, the preferred one first.

    Raises:
      ValueError: if there is none.
    """
    if not whole and not best:
        raise ValueError(f"{run} has no checkpoint yet")
    last_ones = [run / CHECKPOINT_FOLDER / str(step) for step in reversed(whole)]
    best_ones = [run / BEST_FOLDER / str(step) for step in reversed(best)]
    if not which:
        return best_ones + last_ones
    if which in ("best", "last"):
        found = {"best": best_ones, "last": last_ones}[which]
        if not found:
            raise ValueError(
                f"{run} has no {which} checkpoint{_WHY_NONE[which]}; "
                f"{_available(whole, best)}"
            )
        return found
    if not which.isdecimal():
        raise ValueError(f"--checkpoint must be best, last or a step; got {which}")
    found = [path for path in best_ones + last_ones if int(path.name) == int(which)]
    if not found:
        raise ValueError(
            f"{run} has no checkpoint of step {int(which)}; {_available(whole, best)}"
        )
    return found


_WHY_NONE = {
    "best": ": it was not evaluated on held-out questions during RL",
    "last": " yet",
}


def _damage(damaged: dict[Path, str]) -> str:
    return "; ".join(
        f"checkpoint {path} is damaged: {reason}" for path, reason in damaged.items()
    )


def _available(whole: list[int], best: list[int]) -> str:
    named = {step: str(step) for step in (*best, *whole)}
    if best:
        named[best[-1]] += " (best)"
    return f"--checkpoint can be {', '.join(named[step] for step in sorted(named))}"


def _description(
    config: RunConfig, step: int, whole: list[int], best: list[int]
) -> str:
    """For example "step 120 of 150, held-out EM 0.965, the best of 15; ..."."""
    lines = read_evaluations(Path(config.out))
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
