"""Early stopping: a run ends when exact match on held-out questions no longer rises.

The evaluations in `eval.jsonl` decide it, so that a resumed run decides the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsearch.config import RLStage, RunConfig

# Greedy evaluations before and during RL.
_COMPARED = ("before_rl", "heldout")


class Plateau(NamedTuple):
    """Evaluations of the last RL stage without a new best.

    Attributes:
      best: the best exact match.
      best_step: step of the run at which it was measured.
      num_since: number of evaluations since then.
    """

    best: float
    best_step: int
    num_since: int


def plateau(config: RunConfig, evaluations: Sequence[Mapping[str, Any]]) -> Plateau:
    """The evaluations since the best one of the last RL stage.

    The last evaluation before that stage is the first that others must exceed. One that
    exceeds the best by at most `eval.min_improvement` does not count as better.

    Args:
      config: the run's config.
      evaluations: lines of `eval.jsonl`, in order.
    """
    names = [stage.name for stage in config.stages if isinstance(stage, RLStage)]
    lines = [line for line in evaluations if line["name"] in _COMPARED]
    own = [ln for ln in lines if ln["name"] == "heldout" and ln["stage"] in names[-1:]]
    first = own[0]["step"] if own else 0
    before = [line for line in lines if line not in own and line["step"] < first]
    best, best_step, num_since = -1.0, 0, 0
    for line in [*before[-1:], *own]:
        num_since += 1
        if best < 0 or line["em"] > best + config.eval.min_improvement:
            best, best_step, num_since = line["em"], line["step"], 0
    return Plateau(best, best_step, num_since)


def is_stopped(config: RunConfig, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run stops early, or has stopped, after these evaluations."""
    patience = config.eval.patience
    return 0 < patience <= plateau(config, evaluations).num_since


def stopping_line(config: RunConfig, evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The line that tells the user why a run has stopped early."""
    found, by = plateau(config, evaluations), config.eval.min_improvement
    since = "evaluation" if found.num_since == 1 else f"{found.num_since} evaluations"
    return (
        "stopped early: held-out em has not risen"
        + f" by more than {by}" * (by > 0)
        + f" above {found.best:.3f} of step {found.best_step} in the last {since} "
        f"(eval.patience {config.eval.patience})"
    )
