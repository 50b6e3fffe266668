"""Evaluation on held-out questions during training, written to `eval.jsonl`."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxsearch import json_lines, processes
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.evaluation.evaluate import evaluate
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.console import Console
from jaxsearch.monitor.rollout_log import (
    HELDOUT_NAMES,
    heldout_rollouts_path,
    write_rollouts,
)
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.monitor.writers import read_evaluations
from jaxsearch.run.build import Run
from jaxsearch.run.checkpoint_choice import RANKED
from jaxsearch.run.early_stopping import (
    is_stopped,
    plateau,
    stopping_line,
)
from jaxsearch.run.outages import Outages

# Titles of evaluations on the console, by their names in eval.jsonl.
_TITLES = {
    "before_rl": "before RL",
    "heldout": "during RL",
    "after_rl": "after RL",
    "after_rl_sampled": "after RL, sampled",
    "empty_index": "empty index",
}


class HeldOut:
    """Evaluates a run on its held-out questions; does nothing if it has none.

    While searches fail, an evaluation waits and is repeated, as a step is (`Outages`).
    If they fail for too long it raises TryAgainError and has no line, so that a resumed
    run repeats it.

    Args:
      run: the run.
      console: receives the results.
      keep_as_best: keeps the trained parameters of the current step. It is called if no
        greedy evaluation during RL had a higher exact match; of equal ones the latest
        counts, because it was trained for longest.
    """

    def __init__(
        self, run: Run, console: Console, keep_as_best: Callable[[Params], None]
    ):
        self._run = run
        self._console = console
        self._keep_as_best = keep_as_best
        self._path = Path(run.config.out) / "eval.jsonl"
        self._is_warm = False

    def before_rl(self, step: int, stage: str, params: Params) -> None:
        """Evaluates greedily after the supervised stages."""
        self._evaluate("before_rl", step, stage, params)

    def on_the_way(self, step: int, stage: str, params: Params) -> None:
        """Evaluates greedily during RL."""
        self._evaluate("heldout", step, stage, params)

    def is_stopped(self) -> bool:
        """Whether the run stops early; prints so, and agrees in all processes."""
        config = self._run.config
        lines = read_evaluations(self._path.parent)
        # Other processes may read the file before the primary one writes it.
        if not processes.broadcast_from_primary(is_stopped(config, lines)):
            return False
        self._console.print(stopping_line(config, lines))
        return True

    def after_rl(self, step: int, stage: str, params: Params) -> None:
        """Evaluates greedily, with sampling, and with an empty index."""
        run = self._run
        num_printed = run.config.eval.num_printed
        self._evaluate("after_rl", step, stage, params, num_printed=num_printed)
        self._evaluate("after_rl_sampled", step, stage, params, temperature=1.0)
        if run.environments.has_search:
            environment = run.environments.empty
            self._evaluate("empty_index", step, stage, params, environment=environment)

    def _evaluate(
        self,
        name: str,
        step: int,
        stage: str,
        params: Params,
        *,
        temperature: float = 0.0,
        environment: TokenEnvironment | None = None,
        num_printed: int = 0,
    ) -> None:
        """Evaluates once per name and step; a resumed run does not repeat it."""
        run = self._run
        done = read_evaluations(self._path.parent)
        is_done = any(e["name"] == name and e["step"] == step for e in done)
        best = max((e["em"] for e in done if e["name"] in RANKED), default=0.0)
        # Other processes may read the file before or after the primary one writes it.
        is_done, best = processes.broadcast_from_primary((is_done, best))
        if is_done or not run.inputs.heldout:
            return
        started = time.perf_counter()
        rollout_params = run.rollout_params(params)
        if not self._is_warm:
            run.sampler.warm_up(rollout_params, 1, run.announce)
            self._is_warm = True
        outages = Outages(
            run.config.retrieval, self._console.print, "held-out evaluation"
        )
        with self._console.activity(f"{len(run.inputs.heldout)} held-out questions"):
            found = outages.wait_through(
                lambda: evaluate(
                    run.sampler,
                    rollout_params,
                    run.inputs.heldout,
                    environment or run.environments.heldout,
                    run.task,
                    temperature=temperature,
                )
            )
        # Before the line is written: an evaluation with a line is not repeated.
        if name in RANKED and found.results["em"] >= best:
            self._keep_as_best(split(run.transformer.lora, params)[1])
        if not processes.is_primary():
            return
        if name in HELDOUT_NAMES and run.config.logging.rollouts_every:
            write_rollouts(
                heldout_rollouts_path(self._path.parent, name),
                found.trajectories,
                found.outcomes,
                opened=run.task.protocol.opened,
            )
        line = {"step": step, "stage": stage, "name": name, **found.results}
        line["seconds"] = time.perf_counter() - started
        if name == "heldout" and run.config.eval.patience:
            line["num_since_best"] = plateau(run.config, [*done, line]).num_since
        json_lines.append_line(self._path, line)
        self._console.print(_line(name, found.results))
        for trajectory in found.trajectories[:num_printed]:
            print_trajectory(trajectory, run.inputs.protocol, self._console)


def _line(name: str, results: Mapping[str, Any]) -> str:
    """The line of an evaluation on the console."""
    failed = ""
    if results["num_search_failed"]:
        failed = f", a search failed for {results['num_search_failed']}"
    return (
        f"held out, {_TITLES[name]}: em {results['em']:.3f}, "
        f"{results['searches_per_question']:.2f} searches, n {results['n']}{failed}"
    )


def summary(run_folder: Path) -> dict[str, float | str]:
    """The main figures of a run's evaluations, under stable names for scripts."""
    by_name = {line["name"]: line for line in read_evaluations(run_folder)}
    wanted = {
        "em_before_rl": ("before_rl", "em"),
        "em": ("after_rl", "em"),
        "em_sampled": ("after_rl_sampled", "em"),
        "em_empty_index": ("empty_index", "em"),
        "searches_before_rl": ("before_rl", "searches_per_question"),
        "searches": ("after_rl", "searches_per_question"),
        "em_by_hops": ("after_rl", "by_hops"),
    }
    return {
        key: by_name[name][field]
        for key, (name, field) in wanted.items()
        if field in by_name.get(name, {})
    }
