"""The interface of advantage estimators, and the advantage of each rollout or token.

An estimator is a function `(rewards [Q G], is_kept [Q G]) -> advantages`, or a callable
object. It returns one value per rollout, [Q G], or one value per policy turn, [Q G
turns]. Use `@requires(...)` for an estimator that accepts groups of one, or that reads
more than rewards:

    @requires(rollouts=True)
    def credit_last_turn(rewards, is_kept, rollouts):
        num_turns = rollouts.num_turns  # [Q G]
        is_last = np.arange(num_turns.max()) == num_turns[..., None] - 1
        return np.where(is_last, group_relative(rewards, is_kept)[..., None], 0.0)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxsearch.rewards.outcome import Outcome
from jaxsearch.trajectory import Trajectory

# A rollout's value, or one value per policy turn; None if the update excludes it.
Advantage = float | list[float] | None
Estimator = TypeVar("Estimator", bound=Callable[..., Any])


class StepRollouts(NamedTuple):
    """The rollouts of a step, for estimators that read more than rewards.

    Attributes:
      trajectories: Q * G trajectories, group by group.
      outcomes: their outcomes (rewards by term), in the same order.
      num_turns: policy turns of each rollout, [Q G] int32.
    """

    trajectories: Sequence[Trajectory]
    outcomes: Sequence[Outcome]
    num_turns: Int[np.ndarray, "Q G"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requirements:
    """Inputs that an estimator needs.

    Attributes:
      min_group_size: smallest group size G that the estimator supports.
      rollouts: whether it is called with a third argument, `StepRollouts`.
    """

    min_group_size: int = 2
    rollouts: bool = False


def requires(
    *, min_group_size: int = 2, rollouts: bool = False
) -> Callable[[Estimator], Estimator]:
    """Decorator that declares the requirements of an estimator."""

    def declare(estimator: Estimator) -> Estimator:
        estimator.requirements = Requirements(
            min_group_size=min_group_size, rollouts=rollouts
        )
        return estimator

    return declare


def requirements_of(estimator: Callable[..., Any]) -> Requirements:
    """The declared requirements; the default is rewards in groups of two or more."""
    while isinstance(estimator, functools.partial):
        estimator = estimator.func
    # An estimator may be any callable of the user, which need not have the attribute.
    return getattr(estimator, "requirements", Requirements())


def estimate_advantages(
    trajectories: Sequence[Trajectory],
    outcomes: Sequence[Outcome],
    *,
    estimator: Callable[..., Any],
    group_size: int,
) -> list[Advantage]:
    """The advantage of each rollout: a value, or a list with one per policy turn.

    Rollouts that are not kept have None: their rewards carry no information about the
    policy, and the estimator's values for them are ignored.

    Args:
      trajectories: group by group.
      outcomes: one for each trajectory.
      estimator: see the module's docstring.
      group_size: G.

    Raises:
      ValueError: if the estimator returns no array, another shape, or a value that is
        not finite for a rollout that is kept.
    """
    groups = (-1, group_size)
    rewards = jnp.asarray([o.reward for o in outcomes], jnp.float32).reshape(groups)
    is_kept = jnp.asarray([t.is_kept for t in trajectories]).reshape(groups)
    turns = np.asarray([_num_turns(t) for t in trajectories], np.int32)
    arguments = [rewards, is_kept]
    if requirements_of(estimator).rollouts:
        rollouts = StepRollouts(trajectories, outcomes, turns.reshape(groups))
        arguments.append(rollouts)
    values = _as_array(estimator(*arguments), estimator)
    _check_shape(values, rewards.shape, int(turns.max()), estimator)
    values = values.reshape(len(trajectories), *values.shape[2:])
    advantages: list[Advantage] = []
    for trajectory, value, num_turns in zip(trajectories, values, turns, strict=True):
        if not trajectory.is_kept:
            advantages.append(None)
            continue
        value = value if value.ndim == 0 else value[:num_turns]
        if not np.isfinite(value).all():
            raise ValueError(
                f"the advantage estimator {_name(estimator)} must return finite "
                f"values, got {value.tolist()} for a rollout of question "
                f"{trajectory.question_id!r:.80}"
            )
        advantages.append(value.tolist())
    return advantages


def lacks_signal(advantages: Sequence[Advantage], *, is_whitened: bool) -> bool:
    """Whether the rollouts of a step have nothing to learn from: no advantage but 0.

    False if every rollout is excluded, because then nothing was measured.

    Args:
      advantages: one for each rollout of the step.
      is_whitened: whether the advantages will be whitened, which subtracts their mean.
        Then equal ones are no signal either.
    """
    values = np.concatenate(
        [np.ravel(one) for one in advantages if one is not None] or [np.zeros(0)]
    )
    if not values.size:
        return False
    baseline = values[0] if is_whitened else 0.0
    return bool((values == baseline).all())


def token_advantages(
    trajectory: Trajectory, advantage: float | Sequence[float]
) -> float | Float[np.ndarray, " T"]:
    """The advantage of each token: that of its rollout, or of its turn."""
    if isinstance(advantage, float):
        return advantage
    # Index -1, before the first turn, reads the 0 at the end.
    by_turn = np.asarray([*advantage, 0.0], np.float32)
    return by_turn[_turn_indices(trajectory)]


def _turn_indices(trajectory: Trajectory) -> Int[np.ndarray, " T"]:
    """Index of the policy turn that each token is in or follows; -1 before the first.

    A turn is a run of tokens that the policy sampled.
    """
    is_policy = trajectory.is_policy
    is_start = is_policy & ~np.concatenate([[False], is_policy[:-1]])
    return np.cumsum(is_start) - 1


def _num_turns(trajectory: Trajectory) -> int:
    return int(_turn_indices(trajectory)[-1]) + 1


def _as_array(values: Any, estimator: Callable[..., Any]) -> Float[np.ndarray, "..."]:
    """Converts the result of an estimator to an array.

    Raises:
      ValueError: if it holds anything but numbers, or is ragged.
    """
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the advantage estimator {_name(estimator)} must return an array of "
            f"numbers, got {values!r:.80} ({error})"
        ) from error


def _check_shape(
    values: np.ndarray,
    shape: tuple[int, ...],
    max_turns: int,
    estimator: Callable[..., Any],
) -> None:
    allowed = (shape, (*shape, max_turns))
    if values.shape not in allowed:
        raise ValueError(
            f"the advantage estimator {_name(estimator)} must return an array of shape "
            f"[Q G] = {allowed[0]}, or per turn [Q G turns] = {allowed[1]}; got shape "
            f"{values.shape}"
        )


def _name(estimator: Callable[..., Any]) -> str:
    while isinstance(estimator, functools.partial):
        estimator = estimator.func
    described = estimator if isinstance(estimator, type(_name)) else type(estimator)
    return f"{described.__module__}:{described.__qualname__}"
