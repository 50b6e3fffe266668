"""Training rows, one per rollout or demonstration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxsearch.trajectory import Trajectory


class TrainRow(NamedTuple):
    """One trajectory or demonstration, in the form used by an update.

    Attributes:
      tokens: the whole row, prompt first, [T] int32.
      loss_mask: True for tokens that count in the loss, [T]; the first token never
        counts, because no token predicts it. For rollouts this is the trajectory's
        `is_policy`, except in the unmasked control (`unmasked`).
      behavior_logprobs: nats, of the sampler at its temperature; read only where
        loss_mask, [T].
      sampling_logprobs: nats, of the distribution that tokens were drawn from: that of
        behavior_logprobs after truncation to top-k or top-p, [T].
      advantages: one value for all tokens of the row, or one per token [T]; read only
        where loss_mask.
      weight: weight of the loss of each token in the row.
    """

    tokens: np.ndarray
    loss_mask: np.ndarray
    behavior_logprobs: np.ndarray
    sampling_logprobs: np.ndarray
    advantages: float | np.ndarray
    weight: float = 1.0


# Fills a batch when there are no rows; it has no tokens.
EMPTY_ROW = TrainRow(
    tokens=np.zeros(0, np.int32),
    loss_mask=np.zeros(0, bool),
    behavior_logprobs=np.zeros(0, np.float32),
    sampling_logprobs=np.zeros(0, np.float32),
    advantages=0.0,
)


def rollout_row(
    trajectory: Trajectory, advantages: float | np.ndarray = 0.0
) -> TrainRow:
    """The row of a rollout; the tokens that the policy sampled count."""
    return TrainRow(
        tokens=trajectory.tokens,
        loss_mask=trajectory.is_policy,
        behavior_logprobs=trajectory.logprobs,
        sampling_logprobs=trajectory.sampling_logprobs,
        advantages=advantages,
    )


def unmasked(row: TrainRow, prompt_len: int) -> TrainRow:
    """The row with every token after the prompt counted, including retrieved tokens."""
    return row._replace(loss_mask=np.arange(len(row.tokens)) >= prompt_len)


def imitation_row(
    prompt: Sequence[int],
    turns: Sequence[Sequence[int]],
    observations: Sequence[Sequence[int]],
    end_id: int,
) -> TrainRow:
    """The row of a demonstration: prompt, turns and observations in turn, end token.

    The turns and the end token count in the loss; the prompt and the observations do
    not.

    Raises:
      ValueError: unless there is an observation after every turn but the last.
    """
    if len(observations) != len(turns) - 1:
        raise ValueError(
            f"expected {len(turns) - 1} observations between {len(turns)} turns, "
            f"got {len(observations)}"
        )
    tokens, loss_mask = list(prompt), [False] * len(prompt)
    for turn, observation in zip(turns, [*observations, []], strict=True):
        tokens += [*turn, *observation]
        loss_mask += [True] * len(turn) + [False] * len(observation)
    tokens.append(end_id)
    loss_mask.append(True)
    return TrainRow(
        tokens=np.asarray(tokens, np.int32),
        loss_mask=np.asarray(loss_mask),
        behavior_logprobs=np.zeros(len(tokens), np.float32),
        sampling_logprobs=np.zeros(len(tokens), np.float32),
        advantages=0.0,
    )
