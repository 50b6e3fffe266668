"""`jaxsearch select`: training questions by the tries that a policy takes."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines, processes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.data.formats import Question
from jaxsearch.data.selection import (
    Bounds,
    Call,
    Try,
    counts,
    difficulties,
    next_calls,
    question_line,
    tries_line,
)
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE, judge
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.console import count_bar
from jaxsearch.rewards.tasks import task_named
from jaxsearch.run.build import Run
from jaxsearch.run.config_record import difference, identity
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.loading import open_anywhere, policy_params, with_policy
from jaxsearch.run.process_agreement import check_same
from jaxsearch.trajectory import Status

# Of the random numbers: apart from training and from evaluation.
SELECTION_STAGE = 2 * EVALUATION_STAGE

RIGHT = ("cover_em", "em", "f1")


class SelectionFailedError(RuntimeError):
    """Tries that cannot be judged, or bounds that no question is within."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """When an answer counts as right.

    Attributes:
      right: the metric, under the recipe's normaliser.
      at_least: its smallest value that is right.
    """

    right: str = "cover_em"
    at_least: float = 1.0

    def __post_init__(self):
        if self.right not in RIGHT:
            raise ValueError(
                f"--right must be one of {', '.join(RIGHT)}; got {self.right!r}"
            )
        if not 0 < self.at_least <= 1:
            raise ValueError(f"--at-least must be in (0, 1], got {self.at_least}")


def select_to(
    out: Path,
    config: RunConfig,
    *,
    model: str,
    bounds: Bounds,
    judgement: Judgement,
    limit: int = 0,
) -> dict[str, Any]:
    """Writes `tries.jsonl`, `selected.jsonl` and `counts.json`; returns the counts.

    What was rolled out is in `calls.jsonl` and is not rolled out again: not by a
    command that goes on, nor by one that chooses again, with other bounds.

    Args:
      limit: the first so many questions; 0: all.

    Errors: ValueError for input that does not fit, before anything is written;
    SelectionFailedError for a search that failed, or if no question is kept.
    """
    if limit < 0:
        raise ValueError(f"--limit must not be negative, got {limit}")
    stage = _rl_stage(config)
    config = dataclasses.replace(with_policy(config, model), out=str(out))
    run = open_anywhere(config)
    questions = run.inputs.questions[stage.name][: limit or None]
    if not questions:
        raise ValueError(
            "this config has no training questions of its own: name a file with "
            "--data.questions"
        )
    settings = {
        "tries": bounds.tries,
        **dataclasses.asdict(judgement),
        "from": model,
        **_settings(config, stage, questions),
    }
    check_same(settings, "settings")
    _check_folder(out, settings)
    params = policy_params(run, model)
    settings["policy"] = fingerprint(params)
    _check_folder(out, settings)
    # Nobody writes to the folder before all have looked at it.
    processes.wait_for_all("checked")
    if processes.is_primary():
        out.mkdir(parents=True, exist_ok=True)
        record = json.dumps(settings, indent=2).encode()
        json_lines.replace_file(out / "settings.json", record)
    rollouts = _Rollouts(run, stage, params, questions, judgement, out / "calls.jsonl")
    found = difficulties(questions, rollouts.tries(bounds.tries))
    counted = counts(found, bounds)
    if processes.is_primary():
        kept = [one for one in found if bounds.is_kept(one.tries_until_right)]
        json_lines.replace_lines(out / "tries.jsonl", map(tries_line, found))
        json_lines.replace_lines(out / "selected.jsonl", map(question_line, kept))
        whole = {**counted, "bounds": dataclasses.asdict(bounds), "settings": settings}
        record = json.dumps(whole, indent=2).encode()
        json_lines.replace_file(out / "counts.json", record)
    processes.wait_for_all("selected")
    if not counted["kept"]:
        raise SelectionFailedError(
            f"no question is within these bounds, so {out}/selected.jsonl is empty; "
            f"{out}/counts.json says how many tries they took: choose others, nothing "
            "is rolled out again"
        )
    return {"out": str(out), **counted}


class _Rollouts:
    """The tries of a selection: taken from the file of calls, or made and added to it.

    Whoever goes on plans the same calls from the same tries, in the same order.
    """

    def __init__(
        self,
        run: Run,
        stage: RLStage,
        params: Params,
        questions: Sequence[Question],
        judgement: Judgement,
        path: Path,
    ):
        self._run = run
        self._stage = stage
        self._task = task_named(stage.task)
        self._published, _ = run.rollout_params(params)
        self._questions = questions
        self._judgement = judgement
        self._path = path
        self._recorded = processes.broadcast_from_primary(_recorded(path))
        self._num_calls = 0

    def tries(self, most: int) -> list[Try]:
        """Every question's, until it is right or there were so many."""
        made: list[Try] = []
        unsolved = list(range(len(self._questions)))
        num_tried = 0
        with _progress(len(unsolved)) as settle:
            while unsolved and num_tried < most:
                calls = next_calls(
                    unsolved,
                    num_tried=num_tried,
                    tries=most,
                    call_size=_call_size(self._stage),
                )
                num_tried, num_before = calls[0].numbers[-1], len(unsolved)
                for call in calls:
                    found = self._tries_of(call)
                    made += found
                    solved = {one.prompt_index for one in found if one.is_right}
                    unsolved = [p for p in unsolved if p not in solved]
                    settle(len(solved if num_tried < most else call.prompt_indices))
                if processes.is_primary():
                    print(
                        f"{num_tried} of {most} tries: {num_before - len(unsolved)} of "
                        f"{num_before} questions right, {len(unsolved)} left",
                        flush=True,
                    )
        return made

    def _tries_of(self, call: Call) -> list[Try]:
        """Those of the next call, from the file if it has them."""
        number = self._num_calls
        self._num_calls += 1
        if number < len(self._recorded):
            found = self._recorded[number]
            there = {(one.prompt_index, one.number) for one in found}
            if there != {(p, n) for p in call.prompt_indices for n in call.numbers}:
                raise ValueError(
                    f"{self._path}, line {number + 1}: not the tries that come there; "
                    "the file was changed: name another folder with --out"
                )
            return found
        found = self._roll_out(call)
        if processes.is_primary():
            tries = [dataclasses.asdict(one) for one in found]
            json_lines.append_line(self._path, {"tries": tries})
        return found

    def _roll_out(self, call: Call) -> list[Try]:
        asked = [(i, self._questions[i]) for i in call.prompt_indices]
        trajectories, _ = self._run.sampler.run(
            self._published,
            processes.process_shard(asked),
            self._run.observer,
            group_size=len(call.numbers),
            first_sample=call.numbers[0] - 1,
            stage=SELECTION_STAGE,
            temperature=self._stage.temperature,
        )
        failed = [t for t in trajectories if t.status is Status.TOOL_FAILED]
        reasons = [t.tool_calls[-1].failure for t in failed[:1]]
        outcomes, scores = judge(trajectories, self._task)
        right, at_least = self._judgement.right, self._judgement.at_least
        own = [
            Try(
                prompt_index=t.prompt_index,
                number=t.sample_index + 1,
                is_right=score[right] >= at_least,
                num_searches=len(t.tool_calls),
                num_failed=sum(call.has_failed for call in t.tool_calls),
                prediction=outcome.prediction,
            )
            for t, outcome, score in zip(trajectories, outcomes, scores, strict=True)
        ]
        all_gather_objects = processes.all_gather_objects((own, reasons))
        for _, reasons in all_gather_objects:
            if reasons:
                raise SelectionFailedError(
                    f"a search failed ({reasons[0]}), which says nothing about its "
                    "question; see to the retriever: the same command goes on"
                )
        found = [one for part, _ in all_gather_objects for one in part]
        return sorted(found, key=lambda one: (one.prompt_index, one.number))


def _progress(num_questions: int) -> contextlib.AbstractContextManager[Any]:
    if processes.is_primary():
        return count_bar("questions settled", num_questions)
    return contextlib.nullcontext(lambda number: None)


def _rl_stage(config: RunConfig) -> RLStage:
    """The last one: whose recipe judges the run."""
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    if not stages:
        raise ValueError(
            "select rolls out as an RLStage does, and this config has none"
        )
    return stages[-1]


def _call_size(stage: RLStage) -> int:
    """Rollouts of a call: as many as a step of training has."""
    return stage.questions_per_step * stage.group_size


def _settings(
    config: RunConfig, stage: RLStage, questions: Sequence[Question]
) -> dict[str, Any]:
    """What of a config decides the tries, as JSON values."""
    fields = identity(config)
    digest = hashlib.sha256()
    for question in questions:
        line = json.dumps(dataclasses.asdict(question), sort_keys=True)
        digest.update(f"{line}\n".encode())
    settings = {
        "questions": {"n": len(questions), "digest": digest.hexdigest()[:16]},
        "recipe": stage.task,
        "temperature": stage.temperature,
        "call_size": _call_size(stage),
        **{name: fields[name] for name in ("seed", "model", "retrieval", "rollout")},
    }
    # Through JSON, so that tuples and lists compare equal.
    return json.loads(json.dumps(settings))


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    """Refuses a folder that holds something else, or tries of other settings.

    Errors: ValueError says what differs.
    """
    path = out / "settings.json"
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(
                f"{out} is not empty and holds no selection (no settings.json); --out "
                "names a new folder, or one to go on with"
            )
        return
    there = json_lines.parse_line(path.read_text(), path, 1)
    if "policy" not in settings:
        there.pop("policy", None)
    if differs := difference(there, settings):
        raise ValueError(
            f"{out} holds another selection: {differs}; name another folder with --out"
        )


def _try(fields: dict[str, Any]) -> Try:
    """A try from its line; files of earlier versions have `position` as the index."""
    if "position" in fields:
        fields = {**fields, "prompt_index": fields["position"]}
        del fields["position"]
    return Try(**fields)


def _recorded(path: Path) -> list[list[Try]]:
    """The tries of each call that was finished.

    A line that a killed command left unfinished is removed from the file.
    """
    if not path.exists():
        return []
    lines = json_lines.read_lines(path)
    if processes.is_primary():
        json_lines.replace_lines(path, lines)
    try:
        return [[_try(fields) for fields in line["tries"]] for line in lines]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the calls of a selection ({error!r})") from None
