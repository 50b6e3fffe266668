"""What a step draws and what it trains on: one batch, or dynamic sampling."""

from collections.abc import Callable, Sequence

from jaxsearch.config import RLStage
from jaxsearch.data.question import Question
from jaxsearch.rewards.judge import Judged, gather_judged, joined, judge
from jaxsearch.rewards.shaping import apply_overlong_penalty
from jaxsearch.rl.dynamic_sampling import signal_groups, trained_groups
from jaxsearch.run.outages import Outages
from jaxsearch.run.rollouts import RollOut

NextQuestions = Callable[[], Sequence[tuple[int, Question]]]


def draw(
    stage: RLStage,
    roll_out: RollOut,
    next_questions: NextQuestions,
    outages: Outages,
    *,
    max_len: int,
) -> Judged:
    """The judged rollouts of the next batch of questions, of all processes.

    With dynamic sampling, those of up to `stage.max_draws` batches, until
    `stage.questions_per_step` groups have a signal.

    Args:
      next_questions: returns the next questions of this process.
      outages: repeats rollouts whose searches failed.
      max_len: maximum length of a rollout in tokens, for the overlong penalty of a
        stage without a length of its own.
    """
    draws = []
    while True:
        questions = next_questions()
        judged = outages.wait_through(
            lambda questions=questions: gather_judged(
                judge(roll_out(questions), stage.judging_task)
            )
        )
        draws.append(
            apply_overlong_penalty(
                judged,
                max_len=stage.overlong_len or max_len,
                buffer=stage.overlong_buffer,
            )
        )
        judged = joined(draws)
        found = signal_groups(*_rewards(judged), stage.group_size)
        if len(draws) == stage.max_draws or len(found) >= stage.questions_per_step:
            return judged


def chosen(stage: RLStage, judged: Judged) -> list[int]:
    """Indices of the rollouts to train on; all of them without dynamic sampling."""
    if stage.max_draws == 1:
        return list(range(len(judged.trajectories)))
    groups = trained_groups(
        *_rewards(judged),
        group_size=stage.group_size,
        num_groups=stage.questions_per_step,
    )
    size = stage.group_size
    return [i for group in groups for i in range(group * size, (group + 1) * size)]


def draw_metrics(
    stage: RLStage, judged: Judged, trained: Sequence[int]
) -> dict[str, float]:
    """Numbers of groups drawn and trained on; {} without dynamic sampling."""
    if stage.max_draws == 1:
        return {}
    return {
        "groups_drawn": len(judged.trajectories) / stage.group_size,
        "groups_trained": len(trained) / stage.group_size,
    }


def _rewards(judged: Judged) -> tuple[list[float], list[bool]]:
    """The reward of each rollout, and whether it is kept."""
    rewards = [outcome.reward for outcome in judged.outcomes]
    return rewards, [trajectory.is_kept for trajectory in judged.trajectories]
