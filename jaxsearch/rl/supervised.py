"""A demonstration as a row to train on."""

from collections.abc import Sequence

import numpy as np

from jaxsearch.trajectory import TrainRow


def imitation_row(
    prompt: Sequence[int],
    turns: Sequence[Sequence[int]],
    observations: Sequence[Sequence[int]],
    end_id: int,
) -> TrainRow:
    """Prompt, turns with the observations between them, end token.

    The turns and the end token count; the prompt and the observations do not.
    Errors: ValueError unless there is an observation after every turn but the last.
    """
    if len(observations) != len(turns) - 1:
        raise ValueError(
            f"expected {len(turns) - 1} observations between {len(turns)} turns, "
            f"got {len(observations)}"
        )
    tokens, is_policy = list(prompt), [False] * len(prompt)
    for turn, observation in zip(turns, [*observations, []], strict=True):
        tokens += [*turn, *observation]
        is_policy += [True] * len(turn) + [False] * len(observation)
    tokens.append(end_id)
    is_policy.append(True)
    return TrainRow(
        tokens=np.asarray(tokens, np.int32),
        is_policy=np.asarray(is_policy),
        old_logprobs=np.zeros(len(tokens), np.float32),
        advantage=0.0,
    )
