"""Rows to train on: of rollouts, and of demonstrations."""

from collections.abc import Sequence

import numpy as np

from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.rl.supervised import imitation_row
from jaxsearch.run.build import Run
from jaxsearch.trajectory import TrainRow, Trajectory

# A row of no tokens: a batch must have one.
NO_ROW = TrainRow(
    tokens=np.zeros(0, np.int32),
    is_policy=np.zeros(0, bool),
    old_logprobs=np.zeros(0, np.float32),
    advantage=0.0,
)


def train_rows(
    trajectories: Sequence[Trajectory], advantages: Sequence[float | None]
) -> list[TrainRow | None]:
    """A row for each rollout; None without an advantage: an update knows no such."""
    return [
        None
        if advantage is None
        else TrainRow(t.tokens, t.is_policy, t.logprobs, advantage)
        for t, advantage in zip(trajectories, advantages, strict=True)
    ]


def demonstration_row(run: Run, demonstration: Demonstration) -> TrainRow:
    """A demonstration in the tokens of a run: observations as a search would bring.

    Errors: ValueError if it is longer than a rollout may be.
    """
    tokenizer, protocol = run.inputs.tokenizer, run.inputs.protocol
    question = demonstration.question.question
    row = imitation_row(
        tokenizer.encode_prompt(protocol.prompt(question), protocol.messages(question)),
        [tokenizer.encode(turn) for turn in demonstration.turns],
        [run.observer.answer("", found)[0] for found in demonstration.observations],
        tokenizer.end_id,
    )
    if len(row.tokens) > run.config.rollout.max_len:
        raise ValueError(
            f"the demonstration of question {demonstration.question.id!r} has "
            f"{len(row.tokens)} tokens, rollout.max_len is {run.config.rollout.max_len}"
        )
    return row


def with_observations(row: TrainRow, prompt_len: int) -> TrainRow:
    """The row with everything after the prompt counted, retrieved tokens too."""
    return row._replace(is_policy=np.arange(len(row.tokens)) >= prompt_len)
