"""Pictures of meshes, of the costs of an update, and of rooflines."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Mesh

from jaxsearch.notebook.figures import COLOURS, new_figure
from jaxsearch.plan.measured import Measured
from jaxsearch.plan.topology import topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 0.35  # between groups of devices
# Collectives in a fixed order, so that a kind has one colour in all pictures.
_KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all")


def draw_mesh(mesh: Mesh) -> "Figure":
    """Devices by the mesh axes data (rows), fsdp (groups) and tensor (columns)."""
    data, fsdp, tensor = (mesh.shape[axis] for axis in ("data", "fsdp", "tensor"))
    figure, axes = new_figure(1.1 * fsdp * tensor + 1.6, 0.85 * data + 0.9)
    for (d, f, t), device in np.ndenumerate(mesh.devices):
        x, y = f * (tensor + _GAP) + t, -d * (1 + _GAP / 2)
        axes.add_patch(
            _box(x, y, facecolor=COLOURS[f % len(COLOURS)], edgecolor="white")
        )
        axes.text(
            x + 0.45, y + 0.4, f"device {device.id}", ha="center", va="center", size=8
        )
        if d == 0:
            axes.text(x + 0.45, 1.05, f"tensor {t}", ha="center", size=7, color="gray")
        if d == data - 1 and t == 0:
            middle = x + (tensor - 0.1) / 2
            axes.text(middle, y - 0.35, f"fsdp {f}", ha="center", size=8)
        if f == t == 0:
            axes.text(-0.15, y + 0.4, f"data {d}", ha="right", va="center", size=8)
    axes.set_xlim(-1, fsdp * (tensor + _GAP))
    axes.set_ylim(-(data - 1) * (1 + _GAP / 2) - 0.5, 1.3)
    axes.axis("off")
    return figure


def draw_costs(measured: Mapping[str, Measured]) -> "Figure":
    """Memory and received bytes of one device, for the same program on several meshes.

    Args:
      measured: name of a mesh -> the costs of the program there.
    """
    figure, (memory, received) = new_figure(8.5, 0.42 * len(measured) + 1.4, columns=2)
    costs = [*measured.values()]
    _draw_bars(
        memory,
        [*measured],
        {
            "parameters, gradient, rows": [float(one.held_bytes) for one in costs],
            "temporary": [float(one.extra_bytes) for one in costs],
        },
    )
    memory.set_title("memory of a device (MB)", size=9)
    by_kind = {
        kind: [
            float(sum(one.costs.collectives.get(kind, {}).values())) for one in costs
        ]
        for kind in _KINDS
    }
    _draw_bars(received, [*measured], by_kind)
    received.set_yticks([])
    received.set_title("received by a device (MB)", size=9)
    return figure


def draw_roofline(plan: Mapping[str, Any]) -> "Figure":
    """The programs of a plan under the roofline of its chip.

    Args:
      plan: the result of `jaxsearch.plan.plan.plan`, for a machine with a name.
    """
    chip = topology(plan["machine"]).chip
    figure, axes = new_figure(6.0, 3.4)
    ridge = chip.flops / chip.memory_rate  # FLOPs per byte
    programs = {
        name: one["flops"] / one["accessed_bytes"]
        for name, one in plan["programs"].items()
        if one["flops"]
    }
    ends = min(ridge, *programs.values()) / 5, max(ridge, *programs.values()) * 5
    intensity = np.geomspace(*ends, 200)
    roof = np.minimum(chip.flops, chip.memory_rate * intensity)
    axes.loglog(intensity, roof / 1e12, color="black")
    axes.axvline(ridge, color="gray", linewidth=0.7, linestyle=":")
    for (name, x), colour in zip(programs.items(), COLOURS, strict=False):
        y = min(chip.flops, chip.memory_rate * x) / 1e12
        axes.plot(x, y, "o", color=colour, label=f"{name}: {x:,.0f} FLOPs per byte")
    axes.set_xlabel("FLOPs per byte of memory traffic")
    axes.set_ylabel("TFLOP/s at most")
    axes.set_title(f"a chip of {plan['machine']}", size=9)
    axes.legend(fontsize=7, loc="lower right")
    return figure


def _draw_bars(
    axes: "Axes", names: list[str], parts: Mapping[str, list[float]]
) -> None:
    """Horizontal bars of bytes, stacked from parts; the total is written at the end."""
    left = np.zeros(len(names))
    for (label, values), colour in zip(parts.items(), COLOURS, strict=False):
        if any(values):
            width = np.asarray(values) / 1e6
            axes.barh(names, width, left=left, color=colour, label=label, height=0.6)
            left = left + width
    for y, total in enumerate(left):
        axes.text(total + 0.01 * left.max(), y, f"{total:.1f}", va="center", size=7)
    axes.set_xlim(0, 1.15 * left.max() or 1)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _box(x: float, y: float, **style: Any) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (x, y), 0.9, 0.8, boxstyle="round,pad=0,rounding_size=0.1", **style
    )
