"""A plan as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxsearch.plan.fit import gb


def as_text(plan: Mapping[str, Any]) -> str:
    """The lines that `jaxsearch plan` prints."""
    return "\n".join(_lines(plan))


def _lines(plan: Mapping[str, Any]) -> Iterator[str]:
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    how = "compiled" if plan["is_compiled"] else "computed, not compiled"
    yield f"{plan['model']}: {plan['parameters']:,} parameters"
    yield f"  sizes from {plan['sizes_from']}"
    yield (
        f"{plan['machine']}: {plan['devices']} devices, {plan['process_devices']} per "
        f"process; mesh {mesh}; {plan['rollout_tensor']} per copy in rollouts ({how})"
    )
    rows, row_len = plan["microbatch"]
    yield f"microbatch: {rows} rows of {row_len} tokens"
    if plan["programs"]:
        yield ""
        yield from _programs(plan["programs"])
        yield ""
        yield from _memory(plan)
    for name, text in (
        ("flops_of_own", "FLOPs of the update, compared with the model's own"),
        (
            "fsdp_received_of_least",
            "received over fsdp, compared with the least possible",
        ),
    ):
        if name in plan:
            yield f"{text}: {plan[name]:.3f}"
    if seconds := plan["least_step_seconds"]:
        parts = ", ".join(f"{name} {s:.1f}" for name, s in seconds.items())
        yield f"a step of the longest rollouts: at least {sum(seconds.values()):.0f} s"
        yield f"  {parts}"
    yield ""
    if plan["fits"] is None:
        yield "no published figures for these devices: cannot say whether it fits"
    else:
        yield "it fits" if plan["fits"] else "it does not fit:"
    for reason in plan["reasons"]:
        yield f"  {reason}"
    if plan["suggestion"]:
        yield f"  would fit, by arithmetic: {plan['suggestion']}"
    elif plan["reasons"] and plan["suggestion"] is not None:
        yield (
            "  no mesh of these devices fits, by arithmetic: choose more or larger "
            "ones (--topology), or adapters (--model.lora.rank 32)"
        )


def _programs(programs: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{'per device and call':20}{'TFLOP':>9}{'accessed':>12}{'received':>12}"
        f"{'at least':>11}  bound by"
    )
    for name, one in programs.items():
        received = sum(sum(by.values()) for by in one["received_bytes"].values())
        times = one["least_seconds"]
        least = f"{max(times.values()) * 1e3:.2f} ms" if times else "-"
        yield (
            f"{name:20}{one['flops'] / 1e12:>9.3g}{gb(one['accessed_bytes']):>12}"
            f"{gb(received):>12}{least:>11}  {one['bound_by'] or '-'}"
        )
    yield ""
    for name, one in programs.items():
        for kind, by_axes in one["received_bytes"].items():
            for axes, num_bytes in by_axes.items():
                if num_bytes >= 1e6:
                    yield f"  {name}: {kind} over {axes}: {num_bytes / 1e6:,.0f} MB"


def _memory(plan: Mapping[str, Any]) -> Iterator[str]:
    has = f" of {gb(plan['memory_bytes'])}" if plan["memory_bytes"] else ""
    state = gb(plan["state_bytes"])
    yield f"per device{has}: {state} for parameters, moments, reference"
    yield f"  during an update: {gb(plan['update_bytes'])}"
    yield (f"  during rollouts: {gb(plan['rollout_bytes'])} with {plan['slots']} slots")
    if plan["slots_that_fit"] is not None:
        yield (
            f"  slots of full length that fit: {plan['slots_that_fit']} of "
            f"{plan['slot_bytes'] / 1e6:,.0f} MB"
        )
