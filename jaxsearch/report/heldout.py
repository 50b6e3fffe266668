"""The report's section on held-out questions: their rollouts before and after RL."""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxsearch.monitor.rollout_log import LoggedRollout
from jaxsearch.protocol import Protocol
from jaxsearch.report.series import number_text
from jaxsearch.report.tables import empty
from jaxsearch.report.trajectories import attempt, predicted

MAX_PER_GROUP = 8  # questions on the page, of each group of `_GROUPS`
MAX_BYTES = 1_000_000  # size of the section, as HTML
# Titles of the groups, by the sign of the change of the reward.
_GROUPS: Mapping[int, str] = {
    1: "Higher reward after RL",
    -1: "Lower reward after RL",
    0: "Same reward",
}


class _Pair(NamedTuple):
    """The rollouts of one question."""

    before: LoggedRollout
    after: LoggedRollout


def heldout_section(
    before: Sequence[LoggedRollout],
    after: Sequence[LoggedRollout],
    protocol: Protocol | None,
) -> str:
    """Held-out questions with their greedy rollouts before and after RL.

    Args:
      before: rollouts before RL; [] if there are none.
      after: rollouts after RL; [] if there are none yet.
      protocol: None to show text by author only, without marking tags.
    """
    if not (before or after):
        return empty(
            "No held-out trajectories: the run was not evaluated, or "
            "logging.rollouts_every is 0."
        )
    if not (before and after):
        when, others = ("after", "before") if after else ("before", "after")
        found = before or after
        questions = [_alone(one, protocol, when) for one in _spread(found)]
        shown = _within_bytes(questions, MAX_BYTES)
        note = f"Greedy rollouts {when} RL; there are none {others} RL."
        if len(shown) < len(found):
            note += f" The page shows {len(shown)} of {len(found)}."
        return f'<p class="note">{note}</p>{"".join(shown)}'
    earlier = {rollout.question_id: rollout for rollout in before}
    pairs = [
        _Pair(earlier[one.question_id], one)
        for one in after
        if one.question_id in earlier
    ]
    sections = []
    for sign, title in _GROUPS.items():
        found = [pair for pair in pairs if _change(pair) == sign]
        questions = [_together(pair, protocol) for pair in _spread(found)]
        # A part for each, so that long rollouts of one group leave room for the others.
        shown = _within_bytes(questions, MAX_BYTES // len(_GROUPS))
        some = f", {len(shown)} of them shown" if len(shown) < len(found) else ""
        sections.append(f"<h3>{title}: {len(found)} of {len(pairs)}{some}</h3>")
        sections += shown
    return (
        '<p class="note">Greedy rollouts of the same questions before and after RL.'
        f"</p>{''.join(sections)}"
    )


def _change(pair: _Pair) -> int:
    """The sign of the change of the reward."""
    return int(np.sign(pair.after.reward - pair.before.reward))


def _spread(found: Sequence) -> list:
    """Evenly spaced items, at most `MAX_PER_GROUP`."""
    num = min(len(found), MAX_PER_GROUP)
    return [found[i] for i in np.linspace(0, len(found) - 1, num).round().astype(int)]


def _together(pair: _Pair, protocol: Protocol | None) -> str:
    titles = {"Before RL": pair.before, "After RL": pair.after}
    columns = "".join(
        f"<div><h4>{title}</h4>{attempt(one, protocol)}</div>"
        for title, one in titles.items()
    )
    rewards = " → ".join(number_text(one.reward) for one in pair)
    answers = " → ".join(predicted(one.prediction) for one in pair)
    return _details(pair.after, f"{rewards}", answers, columns)


def _alone(rollout: LoggedRollout, protocol: Protocol | None, when: str) -> str:
    column = f"<div><h4>{when.capitalize()} RL</h4>{attempt(rollout, protocol)}</div>"
    answer = predicted(rollout.prediction)
    return _details(rollout, number_text(rollout.reward), answer, column)


def _details(rollout: LoggedRollout, rewards: str, answers: str, columns: str) -> str:
    return (
        f'<details class="heldout"><summary><b>{rewards}</b> '
        f"{html.escape(rollout.question)} <small>{answers}</small></summary>"
        f'<div class="pair">{columns}</div></details>'
    )


def _within_bytes(questions: Sequence[str], max_bytes: int) -> list[str]:
    """The questions that fit into so many bytes, those in front first."""
    shown, num_bytes = [], 0
    for question in questions:
        size = len(question.encode("utf-8", "replace"))
        if num_bytes + size <= max_bytes:
            shown.append(question)
            num_bytes += size
    return shown
