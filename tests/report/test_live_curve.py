"""Curves that a notebook draws while a policy trains."""

import subprocess
import sys

import pytest

pytest.importorskip("matplotlib", reason="pip install 'jaxsearch[notebooks]'")

from jaxsearch.report.live_curve import LiveCurve  # noqa: E402

STEPS = [{"em": 0.25, "loss": 1.0}, {"em": 0.5, "loss": 0.5}, {"em": 1.0, "loss": 0.0}]


def test_each_panel_has_its_metrics_over_the_steps():
    curve = LiveCurve({"match": "em", "both": ("em", "loss")}, STEPS[:1])
    for metrics in STEPS[1:]:
        curve.add(metrics)
    match, both = curve.figure().axes
    [line] = match.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == [0.25, 0.5, 1.0]
    assert [one.get_label() for one in both.lines] == ["em", "loss"]
    assert both.get_legend() and not match.get_legend()
    assert curve._repr_png_().startswith(b"\x89PNG")
    assert repr(curve) == "LiveCurve(match, both; 3 steps)"


def test_a_missing_metric_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="no metric 'f1'; it has em, loss"):
        LiveCurve({"f1": "f1"}).add(STEPS[0])
    with pytest.raises(ValueError, match="at least one panel, got none"):
        LiveCurve({})


def test_outside_of_a_notebook_nothing_is_displayed(capsys):
    with LiveCurve({"em": "em"}) as curve:
        curve.add(STEPS[0])
    assert capsys.readouterr().out == ""


# What a kernel does with a cell, without the seconds of starting one.
CELL = """
from IPython.testing.globalipapp import start_ipython
from IPython.utils.capture import capture_output
shell = start_ipython()
shell.config.IPKernelApp.name = "a kernel"
shell.display_formatter.active_types = shell.display_formatter.format_types
from jaxsearch.report import live_curve
live_curve._PAUSE_S = live_curve._PAUSE_SHARE = 0.0
with capture_output() as captured:
    with live_curve.LiveCurve({"em": "em"}) as curve:
        for em in (0.1, 0.2, 0.3):
            curve.add({"em": em})
        live_curve._PAUSE_S = 9.0
        curve.draw()
        curve.add({"em": 0.4})  # too soon
shown = captured.outputs
print(len(shown), sum(bool(one.update) for one in shown))
print(len({one.transient["display_id"] for one in shown}))
print(all("image/png" in one.data for one in shown))
"""


def test_a_notebook_changes_one_picture_in_place():
    pytest.importorskip("IPython")
    program = [sys.executable, "-W", "error", "-c", CELL]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # One display, then updates of it: two more steps, `draw`, and the end.
    assert done.stdout.split() == ["5", "4", "1", "True"]
