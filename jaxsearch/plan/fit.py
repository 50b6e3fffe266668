"""Memory of a device in each phase, and a lower bound of a step's time."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from jaxsearch.config import RLStage, RunConfig
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork
from jaxsearch.plan.machine import Machine
from jaxsearch.plan.measured import Measured
from jaxsearch.plan.programs import APPEND, DECODE, GRADIENT, PREFILL, STEP
from jaxsearch.rollouts.layout import replicas_of_process


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The memory of one device during a step.

    Rollouts hold no memory during the update. During rollouts, parameters, moments and
    the reference stay allocated.
    """

    machine: Machine
    update: UpdateWork
    rollout: RolloutWork
    programs: Mapping[str, Measured]

    @property
    def update_bytes(self) -> float:
        gradient, step = self.programs[GRADIENT], self.programs[STEP]
        moments = self.update.moments_bytes
        return max(
            gradient.held_bytes + gradient.extra_bytes + moments,
            step.held_bytes + step.extra_bytes,
        )

    @property
    def rollout_bytes(self) -> float:
        return self._bytes_without_slots + self.rollout.cache_bytes

    @functools.cached_property
    def _bytes_without_slots(self) -> float:
        """Bytes of the state, rollout parameters and temporaries, without slots."""
        extra = max(self.programs[name].extra_bytes for name in (APPEND, DECODE))
        # Prefilled prompts are stored outside the slots until they get one.
        prompts = self.programs[PREFILL].extra_bytes
        return self.update.state_bytes + self.rollout.params_bytes + extra + prompts

    @property
    def slots_that_fit(self) -> int | None:
        """Slots of the configured length that fit; None if the memory is unknown."""
        if self.machine.chip is None:
            return None
        free = self.machine.chip.memory_bytes - self._bytes_without_slots
        return max(0, int(free // self.rollout.slot_bytes))

    @property
    def reasons(self) -> list[str]:
        """The reasons why the run does not fit, one sentence each."""
        if self.machine.chip is None or not self.programs:
            return []
        found, memory = [], self.machine.chip.memory_bytes
        if self.update_bytes > memory:
            found.append(
                f"the update needs {gb(self.update_bytes)} of a device's {gb(memory)}"
            )
        copy = self.rollout.params_bytes * self.rollout.tensor
        of_process = self.machine.host_devices * (memory - self.update.state_bytes)
        if copy > of_process:
            found.append(
                f"one copy of the policy for rollouts, {gb(copy)}, does not fit the "
                f"{self.machine.host_devices} devices of a process, which have "
                f"{gb(max(0, of_process))} apart from the training state"
            )
        elif self.rollout_bytes > memory:
            found.append(
                f"rollouts need {gb(self.rollout_bytes)} of a device's {gb(memory)}; "
                f"{self.slots_that_fit} slots fit"
            )
        return found

    def record(self) -> dict[str, Any]:
        if not self.programs:
            return {}
        chip = self.machine.chip
        return {
            "memory_bytes": chip and chip.memory_bytes,
            "state_bytes": self.update.state_bytes,
            "update_bytes": self.update_bytes,
            "rollout_bytes": self.rollout_bytes,
            "slots": self.rollout.num_slots,
            "slot_bytes": self.rollout.slot_bytes,
            "slots_that_fit": self.slots_that_fit,
        }


def step_seconds(
    config: RunConfig,
    stage: RLStage,
    machine: Machine,
    update: UpdateWork,
    rollout: RolloutWork,
    programs: Mapping[str, Measured],
) -> dict[str, float]:
    """Lower bounds in seconds for a step whose rollouts all have the maximum length.

    Each rollout is filled with observations up to its last turn. All slots are assumed
    to be busy and half full on average, without any waiting time.
    """
    if machine.chip is None or not programs:
        return {}
    budgets = config.rollout
    num_rollouts = stage.questions_per_step * stage.group_size
    room = budgets.max_len - budgets.max_prompt_len
    most = budgets.max_searches * budgets.max_observation_len
    observed = max(0, min(most, room - budgets.max_turn_len))
    sampled = room - observed
    num_processes = machine.num_devices // machine.host_devices
    replicas = replicas_of_process(
        machine.host_devices, rollout.tensor, budgets.replicas
    )
    rounds = num_rollouts / (replicas * num_processes)
    decode = programs[DECODE].least_seconds(machine.chip)
    # The minimum that a decoding step reads.
    read = rollout.params_bytes + rollout.cache_bytes / 2
    decode["memory"] = read / machine.chip.memory_rate

    def least(name: str) -> float:
        return max(programs[name].least_seconds(machine.chip).values())

    appended = max(1, rollout.append_tokens)
    return {
        "decode": rounds / rollout.num_slots * sampled * max(decode.values()),
        "append": rounds * observed / appended * least(APPEND),
        "prefill": rounds / rollout.num_slots * least(PREFILL),
        "update": -(-num_rollouts // update.rows) * least(GRADIENT) + least(STEP),
    }


def gb(num_bytes: int | float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
