"""Pictures of the stop automaton, of log-probs, of slots and of cache pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jaxsearch.notebook.figures import COLOURS, new_figure
from jaxsearch.rollouts.stop import stop_states
from jaxsearch.rollouts.timeline import Activity, Timeline
from jaxsearch.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_ACTIVITY = {
    Activity.DECODING: COLOURS[0],
    Activity.CALLING: COLOURS[1],
    Activity.WAITING: COLOURS[4],
}
_FREE = -1


def draw_automaton(stop_tags: Sequence[str]) -> "Figure":
    """The states of the automaton that finds stop tags, one after each character.

    Every state has an arrow for every character; those that are not drawn lead back
    towards the start. Tags that start alike share states.
    """
    states = stop_states(stop_tags)
    longest = max(map(len, stop_tags))
    figure, axes = new_figure(0.85 * longest + 1.6, 0.9 * len(stop_tags) + 0.5)

    def place(text: str) -> tuple[float, float]:
        rows = (i for i, tag in enumerate(stop_tags) if tag.startswith(text))
        return float(len(text)), -float(next(rows))

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str) -> None:
        axes.annotate(
            "",
            end,
            start,
            arrowprops={"arrowstyle": "->", "shrinkA": 13, "shrinkB": 13},
        )
        axes.text((start[0] + end[0]) / 2, start[1] + 0.1, text, ha="center", size=9)

    for number, state in enumerate(states):
        x, y = place(state)
        axes.plot(x, y, "o", markersize=22, color=COLOURS[0], markeredgecolor="gray")
        axes.text(x, y, str(number), ha="center", va="center", size=8)
        if state:
            arrow(place(state[:-1]), (x, y), state[-1])
    for number, tag in enumerate(stop_tags):
        x, y = float(len(tag)), -float(number)
        axes.plot(x, y, "s", markersize=22, color=COLOURS[1], markeredgecolor="gray")
        axes.text(x, y, str(len(states)), ha="center", va="center", size=8)
        axes.text(x + 0.35, y, "stop", va="center", size=9)
        arrow(place(tag[:-1]), (x, y), tag[-1])
    axes.set_xlim(-0.5, longest + 1)
    axes.set_ylim(-len(stop_tags) + 0.4, 0.6)
    axes.axis("off")
    return figure


def draw_logprobs(
    trajectory: Trajectory, trained: Float[np.ndarray, " T"], pieces: Sequence[str]
) -> "Figure":
    """The log-probs of sampler and trainer at each token, with their difference.

    Args:
      trained: the trainer's, from `jaxsearch.logprobs`.
      pieces: the text of each token.
    """
    shown = np.arange(trajectory.prompt_len, len(trajectory.tokens))
    sampled = trajectory.is_policy[shown]
    figure, (above, below) = new_figure(9.0, 3.6, rows=2)
    for axes in (above, below):
        for x in shown[~sampled]:
            axes.axvspan(x - 0.5, x + 0.5, color="0.9", linewidth=0)
        axes.set_xlim(shown[0] - 0.5, shown[-1] + 0.5)
    at = shown[sampled]
    above.plot(at, trajectory.logprobs[at], "o", color=COLOURS[0], label="sampler")
    above.plot(at, trained[at], "k+", label="trainer")
    above.set_ylabel("log-prob (nats)", size=8)
    above.margins(y=0.15)
    above.set_xticks([])
    above.legend(fontsize=7, loc="lower right")
    below.plot(at, trained[at] - trajectory.logprobs[at], ".", color="black")
    below.set_ylabel("difference", size=8)
    below.set_xticks(shown, [pieces[i] for i in shown], rotation=90, size=7)
    return figure


def draw_slots(timeline: Timeline) -> "Figure":
    """A Gantt chart: what each slot does, and below it when tools run."""
    slots = sorted({(span.replica, span.slot) for span in timeline.spans})
    rows = {slot: row for row, slot in enumerate(slots)}
    figure, axes = new_figure(9.0, 0.28 * len(slots) + 1.5)
    start = min(span.start for span in timeline.spans)
    for activity, colour in _OF_ACTIVITY.items():
        spans = [span for span in timeline.spans if span.activity is activity]
        if spans:
            axes.barh(
                [rows[span.replica, span.slot] for span in spans],
                [1e3 * (span.end - span.start) for span in spans],
                left=[1e3 * (span.start - start) for span in spans],
                color=colour,
                edgecolor="white",
                label=activity.value,
            )
    axes.barh(
        [len(slots)] * len(timeline.tool_spans),
        [1e3 * (span.end - span.start) for span in timeline.tool_spans],
        left=[1e3 * (span.start - start) for span in timeline.tool_spans],
        color=COLOURS[3],
        edgecolor="white",
        label="the tool runs",
    )
    names = [f"slot {slot}" for _, slot in slots]
    axes.set_yticks([*rows.values(), len(slots)], [*names, "tool"], size=8)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds", size=8)
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return figure


def draw_pages(timeline: Timeline, replica: int = 0) -> "Figure":
    """Which slot owns each page of the cache, from one decoding call to the next."""
    from matplotlib.colors import ListedColormap

    owners = np.stack([p.owners for p in timeline.pages if p.replica == replica])
    figure, axes = new_figure(9.0, 0.12 * owners.shape[1] + 1.3)
    used = owners.max() + 1
    colours = [COLOURS[slot % len(COLOURS)] for slot in range(used)]
    axes.imshow(
        owners.T,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(["white", *colours]),
        vmin=_FREE,
        vmax=used - 1,
    )
    for call, row in enumerate(owners):
        for page, slot in enumerate(row):
            is_new = call == 0 or owners[call - 1, page] != slot
            if slot != _FREE and is_new:
                axes.text(call, page, str(slot), ha="center", va="center", size=6)
    axes.set_xlabel("call of the decoding program", size=8)
    axes.set_ylabel("page", size=8)
    axes.tick_params(labelsize=7)
    return figure
