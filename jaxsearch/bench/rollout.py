"""`jaxsearch bench rollout`: the scripted rollouts of a workload."""

import contextlib
import dataclasses
import statistics
from typing import Any

import jax

from jaxsearch.bench import roofline
from jaxsearch.bench.measurement import compilations, peak_bytes, say
from jaxsearch.bench.peer import Peer
from jaxsearch.bench.scripted_sampler import (
    random_policy,
    scripted_environment,
    scripted_questions,
    scripted_sampler,
)
from jaxsearch.bench.workload import Workload, read_workload, workload_path
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.rollouts.records import Timing
from jaxsearch.trajectory import Trajectory


class ScriptedRollouts:
    """A compiled sampler for the scripted rollouts of a workload.

    Args:
      workload: lengths, model and slots.
      replicas: number of devices that share the rollouts, each with the workload's
        slots.

    Raises:
      ValueError: if there are fewer devices than replicas.
    """

    def __init__(self, workload: Workload, replicas: int = 1):
        self.workload = workload
        meshes = replica_meshes(jax.local_devices(), 1, replicas)
        transformer, self._params = random_policy(workload, meshes)
        self._sampler = scripted_sampler(workload, transformer, meshes)
        self._questions = scripted_questions(workload)
        self._environment = scripted_environment(workload, self._sampler.tokenizer)
        self._sampler.warm_up(self._params, workload.group_size)

    def run(self, *, is_profiled: bool = False) -> Timing:
        """Runs every rollout once.

        Raises:
          RuntimeError: if a rollout does not have its scripted length.
        """
        trajectories, timing = self.rollouts(is_profiled=is_profiled)
        if [len(t.tokens) for t in trajectories] != self.workload.row_lens:
            raise RuntimeError("the rollouts do not have the lengths of the workload")
        return timing

    def rollouts(self, *, is_profiled: bool = False) -> tuple[list[Trajectory], Timing]:
        """Returns the trajectories of the workload and the time they took."""
        return self._sampler.run(
            self._params,
            self._questions,
            self._environment,
            group_size=self.workload.group_size,
            stage=0,
            temperature=self.workload.temperature,
            is_profiled=is_profiled,
        )


def bench_rollout(
    source: str,
    *,
    repeats: int,
    slots: int | None = None,
    latency: float | None = None,
    replicas: int = 1,
    peers: dict[str, str],
) -> dict[str, Any]:
    """Returns medians of `repeats` runs after a warm-up; engines take turns.

    Args:
      source: a workload file, or the name of a packaged workload.
      repeats: number of measured runs.
      slots: slots per replica; None for the workload's value.
      latency: seconds per search; None for the workload's value.
      replicas: number of devices that share the rollouts.
      peers: the Python interpreter of each peer, by its name. A peer runs the workload
        unchanged on one device.

    Raises:
      ValueError: if the workload or a peer cannot be used.
    """
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    workload = read_workload(source)
    changes = {"slots": slots, "retrieval_latency_s": latency}
    given = {name: value for name, value in changes.items() if value is not None}
    if (given or replicas != 1) and peers:
        raise ValueError(
            "--slots, --latency and --replicas cannot be compared with a peer"
        )
    if replicas < 1:
        raise ValueError(f"--replicas must be at least 1, got {replicas}")
    workload = dataclasses.replace(workload, **given)
    with contextlib.ExitStack() as stack:
        others = {}
        for name, python in peers.items():
            others[name] = Peer(name, python, workload_path(source))
            stack.callback(others[name].close)
        ours = ScriptedRollouts(workload, replicas)
        say(f"warming up: jaxsearch{''.join(f', {name}' for name in others)}")
        ours.run()
        for peer in others.values():
            peer.run()
        timings: list[Timing] = []
        seconds: dict[str, list[float]] = {name: [] for name in others}
        with compilations() as compiled:
            for number in range(repeats):
                timings.append(ours.run())
                say(
                    f"run {number + 1}/{repeats}: jaxsearch {timings[-1].seconds:.2f} s"
                )
                for name, peer in others.items():
                    seconds[name].append(peer.run().seconds)
                    say(f"run {number + 1}/{repeats}: {name} {seconds[name][-1]:.2f} s")
        profile = ours.run(is_profiled=True)
        return _summary(workload, replicas, timings, profile, seconds, len(compiled))


def _summary(
    workload: Workload,
    replicas: int,
    timings: list[Timing],
    profile: Timing,
    peers: dict[str, list[float]],
    num_compiled: int,
) -> dict[str, Any]:
    timing = sorted(timings, key=lambda t: t.seconds)[len(timings) // 2]
    seconds = statistics.median(t.seconds for t in timings)
    work = roofline.phases(workload)
    limit_seconds = sum(phase.seconds for phase in work.values()) / replicas
    asked = timing.asked_at
    result: dict[str, Any] = {
        "workload": {
            "rollouts": workload.num_rollouts,
            "slots": workload.slots,
            "turns": workload.num_turns,
        },
        "device": jax.devices()[0].device_kind,
        "replicas": replicas,
        "policy_tokens": workload.policy_tokens,
        "seconds": seconds,
        "runs": [t.seconds for t in timings],
        "policy_tokens_per_s": workload.policy_tokens / seconds,
        "prefill_tokens": timing.num_prefilled,
        "observation_tokens": timing.num_observed,
        "decode_calls": timing.num_decode_calls,
        "decode_steps": timing.num_steps,
        "slots_busy": workload.policy_tokens / (timing.num_steps * workload.slots),
        "peak_bytes": peak_bytes(),
        "limit_seconds": limit_seconds,
        "limit_fraction": limit_seconds / seconds,
        "limit": {
            name: {"seconds": w.seconds, "gflops_per_s": w.flops / w.seconds / 1e9}
            for name, w in work.items()
        },
        "profile": profile.phases | {"all": profile.seconds},
        "search_wait_fraction": timing.environment_wait / timing.seconds,
        "turn_seconds": [b - a for a, b in zip(asked, asked[1:], strict=False)],
        "recompilations": num_compiled,
    }
    for name, runs in peers.items():
        median = statistics.median(runs)
        result[name] = {
            "seconds": median,
            "runs": runs,
            "policy_tokens_per_s": workload.policy_tokens / median,
            "times_slower": median / seconds,
        }
    return result
