"""Curves of training in a notebook, drawn again after each step."""

import io
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Pause between two drawings: at least so many seconds, and so many times the seconds
# of the last drawing, so that fast steps do not wait for them.
_PAUSE_S = 0.5
_PAUSE_SHARE = 10
_COLOURS = ("#1a7f5a", "#2f62c9", "#b7791f", "#a23b72", "#5b6470")


class LiveCurve:
    """A figure with one curve for each metric, which grows while a policy trains.

    In Jupyter the figure changes in place; a notebook that is executed without a
    browser keeps the last one. Outside of notebooks nothing is displayed. Needs
    matplotlib, as in the extra `notebooks`.

    Args:
      panels: title of a panel -> metric of `Trainer.step`, or several for one panel.
      history: metrics of earlier steps.

    Attributes:
      history: the metrics of each step that was added.

    Raises:
      ValueError: if there are no panels.

    Example:
      >>> curve = jaxsearch.LiveCurve({"reward": "reward/mean"})
      >>> curve.add({"reward/mean": 0.2, "loss": 0.1})
      >>> curve.add({"reward/mean": 0.4, "loss": 0.1})
      >>> [line.get_ydata().tolist() for line in curve.figure().axes[0].lines]
      [[0.2, 0.4]]
    """

    history: list[Mapping[str, float]]

    def __init__(
        self,
        panels: Mapping[str, str | Sequence[str]],
        history: Iterable[Mapping[str, float]] = (),
    ):
        if not panels:
            raise ValueError("LiveCurve needs at least one panel, got none")
        self._panels = {
            title: (names,) if isinstance(names, str) else tuple(names)
            for title, names in panels.items()
        }
        self.history = []
        self._handle: Any = None
        self._due_at = -math.inf
        for metrics in history:
            self._append(metrics)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a step, and draws the figure if there was time.

        Raises:
          ValueError: if a metric of a panel is missing.
        """
        self._append(metrics)
        if time.perf_counter() > self._due_at:
            self.draw()

    def _append(self, metrics: Mapping[str, float]) -> None:
        for name in (name for names in self._panels.values() for name in names):
            if name not in metrics:
                raise ValueError(
                    f"the step has no metric {name!r}; it has {', '.join(metrics)}"
                )
        self.history.append(dict(metrics))

    def __enter__(self) -> "LiveCurve":
        return self

    def __exit__(self, *exception: object) -> None:
        self.draw()

    def draw(self) -> None:
        """Draws all steps so far; leaving a `with` block does so too."""
        ipython = sys.modules.get("IPython")
        shell = ipython and ipython.get_ipython()
        # Not in IPython's terminal, which has no pictures.
        if not shell or "IPKernelApp" not in shell.config or not self.history:
            return
        started = time.perf_counter()
        if self._handle is None:
            self._handle = ipython.display.display(self, display_id=True)
        else:
            self._handle.update(self)
        now = time.perf_counter()
        self._due_at = now + max(_PAUSE_S, _PAUSE_SHARE * (now - started))

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.figure().savefig(file, format="png")
        return file.getvalue()

    def figure(self) -> Any:
        """The figure of the steps so far, one panel beside the other."""
        from matplotlib.figure import Figure

        # Not of pyplot, which would show it once more at the end of a cell.
        figure = Figure(figsize=(3.2 * len(self._panels), 2.5), dpi=80)
        panels = figure.subplots(1, len(self._panels), squeeze=False)[0]
        steps = range(1, len(self.history) + 1)
        for axes, (title, names) in zip(panels, self._panels.items(), strict=True):
            for i, name in enumerate(names):
                values = [metrics[name] for metrics in self.history]
                colour = _COLOURS[i % len(_COLOURS)]
                axes.plot(steps, values, ".-", color=colour, label=name)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(names) > 1:
                axes.legend(fontsize=8, frameon=False)
        figure.set_layout_engine("tight")
        return figure

    def __repr__(self) -> str:
        return f"LiveCurve({', '.join(self._panels)}; {len(self.history)} steps)"
