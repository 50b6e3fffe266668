"""What the pictures of the notebooks show."""

import builtins

import jax
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pip install 'jaxsearch[notebooks]'")

from jaxsearch.mesh import MeshShape, make_mesh  # noqa: E402
from jaxsearch.notebook.figures import new_figure  # noqa: E402
from jaxsearch.notebook.rollout_pictures import (  # noqa: E402
    draw_automaton,
    draw_logprobs,
    draw_pages,
    draw_slots,
)
from jaxsearch.notebook.sharding_pictures import (  # noqa: E402
    draw_costs,
    draw_mesh,
    draw_roofline,
)
from jaxsearch.plan.costs import Costs  # noqa: E402
from jaxsearch.plan.measured import Measured  # noqa: E402
from jaxsearch.rollouts.timeline import (  # noqa: E402
    Activity,
    PageOwners,
    Span,
    Timeline,
    ToolSpan,
)
from jaxsearch.trajectory import Status, Trajectory  # noqa: E402


def texts(axes):
    return [text.get_text() for text in axes.texts]


def bars(axes):
    """Start, width and row of each horizontal bar."""
    return [
        (round(p.get_x(), 3), round(p.get_width(), 3), round(p.get_y() + 0.4, 3))
        for p in axes.patches
    ]


def test_a_mesh_has_its_devices_and_axes():
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2), jax.devices()[:8])
    [axes] = draw_mesh(mesh).axes
    places = {t.get_text(): t.get_position() for t in axes.texts}
    devices = [f"device {device.id}" for device in mesh.devices.flat]
    assert len(devices) == 8 and {*devices} < {*places}
    # Device [data, fsdp, tensor]: tensor and fsdp to the right, data downwards.
    (x, y), (right, same), (group, _), (_, below) = (
        places[f"device {mesh.devices[at].id}"]
        for at in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    )
    assert x < right < group and y == same > below
    assert {"data 0", "data 1", "fsdp 0", "fsdp 1", "tensor 1"} < {*places}


def measured(held, extra, **collectives):
    costs = Costs(flops=1.0, memory_bytes=1.0, collectives=collectives)
    return Measured(held_bytes=held, extra_bytes=extra, costs=costs)


def test_costs_are_bars_in_megabytes():
    gathers = {
        "all-gather": {"fsdp": 1e6, "data+fsdp": 2e6},
        "all-reduce": {"data": 4e6},
    }
    figure = draw_costs({"a": measured(8e6, 2e6), "b": measured(1e6, 5e6, **gathers)})
    memory, received = figure.axes
    assert texts(memory) == ["10.0", "6.0"] and texts(received) == ["0.0", "7.0"]
    widths = [round(patch.get_width(), 3) for patch in received.patches]
    assert widths == [0.0, 3.0, 0.0, 4.0]
    [_, last] = received.containers
    assert last.patches[1].get_x() == 3.0  # stacked


def test_programs_are_under_the_roof():
    program = {"flops": 197e12, "accessed_bytes": 0.819e12}
    slow = {"flops": 1e12, "accessed_bytes": 0.819e12}
    none = {"flops": 0.0, "accessed_bytes": 1.0}
    plan = {
        "machine": "v5e:4x4",
        "programs": {"gradient": program, "decode": slow, "step": none},
    }
    [axes] = draw_roofline(plan).axes
    points = {
        line.get_label().partition(":")[0]: (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() == "o"
    }
    assert points["gradient"] == pytest.approx((197 / 0.819, 197))
    assert points["decode"] == pytest.approx((1 / 0.819, 1))
    assert "step" not in points


def test_an_automaton_has_a_circle_for_each_state():
    [axes] = draw_automaton(["<a>", "<bc>"]).axes
    circles = [line for line in axes.lines if line.get_marker() == "o"]
    stops = [line for line in axes.lines if line.get_marker() == "s"]
    assert (len(circles), len(stops)) == (5, 2)
    assert texts(axes).count("5") == 2 and texts(axes).count("stop") == 2
    # Both tags begin with <, so that there is one arrow for it.
    assert texts(axes).count("<") == 1 and texts(axes).count(">") == 2


def test_logprobs_are_those_of_sampled_tokens():
    size = 5
    one = Trajectory(
        question_id="",
        question="",
        golden_answers=(),
        prompt_index=0,
        sample_index=0,
        tokens=np.arange(size),
        is_policy=np.array([False, False, True, False, True]),
        logprobs=np.array([0, 0, -1.0, 0, -2.0]),
        sampling_logprobs=np.zeros(size),
        prompt_len=2,
        segments=(),
        tool_calls=(),
        status=Status.ENDED,
    )
    trained = np.array([0, 0, -1.5, 0, -2.0])
    above, below = draw_logprobs(one, trained, list("abcde")).axes
    assert [line.get_xdata().tolist() for line in above.lines] == [[2, 4], [2, 4]]
    assert below.lines[0].get_ydata().tolist() == [-0.5, 0.0]
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels == ["c", "d", "e"]
    assert len(above.patches) == 1  # the observation


@pytest.fixture
def timeline():
    found = Timeline()
    found.spans += [
        Span(0, 0, 0, 0, Activity.DECODING, 1.0, 1.5),
        Span(0, 0, 0, 0, Activity.CALLING, 1.5, 1.75),
        Span(0, 3, 0, 1, Activity.DECODING, 1.25, 2.0),
    ]
    found.tool_spans.append(ToolSpan(0, (0,), 1.5, 1.625))
    found.pages += [
        PageOwners(0, 1.0, np.array([0, -1, -1])),
        PageOwners(1, 1.1, np.array([2, 2, 2])),
        PageOwners(0, 1.2, np.array([0, 3, -1])),
    ]
    return found


def test_slots_are_rows_of_bars(timeline):
    [axes] = draw_slots(timeline).axes
    assert bars(axes) == [
        (0, 500, 0),
        (250, 750, 1),
        (500, 250, 0),
        (500, 125, 2),
    ]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["slot 0", "slot 3", "tool"]


def test_pages_have_the_colour_of_their_slot(timeline):
    [axes] = draw_pages(timeline).axes
    [image] = axes.images
    assert image.get_array().tolist() == [[0, 0], [-1, 3], [-1, -1]]
    # A number where a slot takes a page.
    assert [(t.get_text(), t.get_position()) for t in axes.texts] == [
        ("0", (0, 0)),
        ("3", (1, 1)),
    ]


def test_jupyter_shows_a_small_png(timeline):
    png = draw_slots(timeline)._repr_png_()
    assert png.startswith(b"\x89PNG") and len(png) < 20_000


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("jaxsearch.notebook.picture"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxsearch\[note"):
        new_figure(1.0, 1.0)
