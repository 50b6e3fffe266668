"""Dynamic sampling: draw questions until enough groups carry a signal.

A group whose rewards are all equal has no advantage. Late in training most groups are
like that, so an update learns from ever fewer rollouts. Dynamic sampling draws more
questions in that step and trains only on groups with unequal rewards.

Source: Yu et al. 2025, DAPO (arXiv:2503.14476, section 3.2), which draws without a
limit. Here a limit bounds the time of a step; when it is reached, the step trains on
the groups it has found.
"""

from collections.abc import Sequence


def signal_groups(
    rewards: Sequence[float], is_kept: Sequence[bool], group_size: int
) -> list[int]:
    """Numbers of the groups whose kept rollouts have unequal rewards.

    Args:
      rewards: one per rollout, group by group.
      is_kept: whether each rollout counts.
      group_size: G.
    """
    found = []
    for number, start in enumerate(range(0, len(rewards), group_size)):
        group = range(start, start + group_size)
        if len({rewards[i] for i in group if is_kept[i]}) > 1:
            found.append(number)
    return found


def trained_groups(
    rewards: Sequence[float],
    is_kept: Sequence[bool],
    *,
    group_size: int,
    num_groups: int,
) -> list[int]:
    """Numbers of the groups to train on: the first `num_groups` with a signal.

    If no group has one, these are the first `num_groups` of all, so that the step is an
    ordinary one whose gradient is that of KL and entropy alone.
    """
    found = signal_groups(rewards, is_kept, group_size)
    return found[:num_groups] or list(range(num_groups))
