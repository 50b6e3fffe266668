"""A trajectory as the output of a notebook's cell."""

import html

from jaxsearch.metrics import OutcomeLike
from jaxsearch.protocol import Protocol
from jaxsearch.report.assets import asset
from jaxsearch.report.trajectories import (
    facts_list,
    gold_text,
    predicted,
    reward_text,
    status_words,
    transcript,
)
from jaxsearch.trajectory import Trajectory
from jaxsearch.visible import visible

_FRAME = """
& { background: var(--card); color: var(--ink); border: 1px solid var(--line);
  border-radius: 11px; padding: 16px 20px; max-width: 1100px;
  font: 15px/1.55 system-ui, sans-serif; }
h3, h4, p, dl, dd, ol { margin: 0; }
h3 { font-size: 18px; line-height: 1.35; margin: 2px 0 12px; }
"""


def trajectory_html(
    trajectory: Trajectory, outcome: OutcomeLike, protocol: Protocol
) -> str:
    """One trajectory, with the colours of the report and a style of its own.

    Args:
      trajectory: without golden answers, no reward is shown.
      outcome: its prediction and reward.
      protocol: marks thoughts, queries, passages and answers.
    """
    golden_answers = trajectory.golden_answers
    facts = {"Gold": gold_text(golden_answers)} if golden_answers else {}
    facts["Predicted"] = predicted(outcome.prediction)
    if golden_answers:
        facts["Reward"] = reward_text(outcome.reward, outcome.terms)
        facts["Reason"] = html.escape(outcome.reason)
    facts["Ended"] = status_words(trajectory.status)
    facts["Tokens"] = (
        f"{int(trajectory.is_policy.sum())} of {len(trajectory.tokens)} written by the "
        "policy"
    )
    return visible(
        f'<div class="jaxsearch"><style>{_style()}</style>'
        f"<h3>{html.escape(trajectory.question)}</h3>{facts_list(facts)}"
        f"{transcript(trajectory.segments, trajectory.tool_calls, protocol)}</div>"
    )


def _style() -> str:
    """The report's rules, nested, so that they change nothing else in the notebook."""
    colours = asset("colours.css").replace(":root", "&")
    return f".jaxsearch {{ {colours}{_FRAME}{asset('trajectory.css')} }}"
