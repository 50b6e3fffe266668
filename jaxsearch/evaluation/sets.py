"""Evaluation of several sets of questions in one queue, written to a folder."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE, RolloutSampler
from jaxsearch.evaluation.figures import read_answers
from jaxsearch.evaluation.model_failures import (
    Failure,
    check_failures,
    check_some_answers,
    write_failures,
)
from jaxsearch.evaluation.prediction_log import Key, PredictionLog
from jaxsearch.evaluation.predictions import (
    prediction_line,
    token_fields,
    write_results,
)
from jaxsearch.evaluation.progress import progress
from jaxsearch.evaluation.question_sets import QuestionSet
from jaxsearch.evaluation.recorder import Recorder
from jaxsearch.evaluation.set_results import results_of_sets
from jaxsearch.evaluation.settings import check_settings, read_settings, write_settings
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.rollout_log import opened_field
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.tasks import Task
from jaxsearch.run.process_agreement import check_same
from jaxsearch.trajectory import Status, Trajectory

KIND = "evaluation"  # kind of folder, in messages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A policy to evaluate, with its tools and its task.

    Attributes:
      sampler: samples the rollouts.
      params: parameters of the policy, in the sampler's layout.
      environment: the tools that answer the policy.
      task: judges the rollouts.
      labels: name of the model and other lines for `results.json`, as JSON values.
      identity: everything that determines the rollouts, as JSON values; an evaluation
        continues only in a folder with the same values.
    """

    sampler: RolloutSampler
    params: Params
    environment: TokenEnvironment
    task: Task
    labels: Mapping[str, Any]
    identity: Mapping[str, Any]


def evaluate_sets(
    out: Path,
    subject: Subject,
    sets: Sequence[QuestionSet],
    *,
    num_samples: int = 1,
    temperature: float = 0.0,
    keeps_tokens: bool = False,
    allowed_failures: int = 0,
) -> dict[str, Any]:
    """Evaluates sets of questions; writes `predictions.jsonl` and `results.json`.

    All sets share one queue, so slots never wait between sets. Predictions are appended
    to the file as rollouts finish. After a stop, the same call continues: it rolls out
    only the answers that have no line yet. The processes of a run share the questions,
    and all of them return the results.

    An answer that a model server failed to give has no prediction and is excluded from
    all metrics. `failures.jsonl` has the reasons, and the same call retries it.

    Args:
      out: output folder: new, empty, or of the same evaluation.
      subject: the policy to evaluate.
      sets: the sets, with different names.
      num_samples: answers per question.
      temperature: sampling temperature; 0 is greedy.
      keeps_tokens: whether predictions have token ids and log-probs.
      allowed_failures: answers that a model server may fail to give.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, or the folder holds something else.
      ModelFailedError: if more answers failed; the rest is written first.
    """
    if not sets or not all(one.questions for one in sets):
        raise ValueError("expected at least one question in each set to evaluate on")
    settings = {
        **subject.identity,
        "recipe": subject.task.name,
        "questions": [one.record() for one in sets],
        "samples": num_samples,
        "temperature": temperature,
        **({"keeps_tokens": True} if keeps_tokens else {}),
    }
    check_same(settings, "settings")
    processes.on_primary(lambda: _claim(out, settings, subject.labels))
    rollouts = _Rollouts(out, subject, sets, num_samples, temperature, keeps_tokens)
    failures = rollouts.finish()
    check_some_answers(failures, rollouts.num_answers)
    results: dict[str, Any] = {}
    if processes.is_primary():
        results = {
            **subject.labels,
            "recipe": subject.task.name,
            "questions": _sources(sets),
            "temperature": temperature,
            **({"num_model_failed": len(failures)} if failures else {}),
            **results_of_sets(
                read_answers(out / "predictions.jsonl", subject.task.normalise)
            ),
        }
        for one in sets:
            if one.name in results["sets"]:
                chosen = {"of": one.num_all, "sample_seed": one.seed}
                results["sets"][one.name] |= chosen
        write_results(out, results)
    check_failures(failures, allowed_failures, rollouts.num_answers)
    return processes.broadcast_from_primary(results)


class _Rollouts:
    """The rollouts of an evaluation that have no line yet."""

    def __init__(
        self,
        out: Path,
        subject: Subject,
        sets: Sequence[QuestionSet],
        num_samples: int,
        temperature: float,
        keeps_tokens: bool,
    ):
        self._out = out
        self._subject = subject
        self._keeps_tokens = keeps_tokens
        self._failures: list[Failure] = []
        self._num_samples = num_samples
        self._temperature = temperature
        # The index in this list is the prompt_index, which determines the random keys.
        self._asked = [(one.name, q) for one in sets for q in one.questions]
        self._log = PredictionLog(out)
        self._opened = opened_field(subject.task.protocol.opened)

    @property
    def num_answers(self) -> int:
        """Answers to all questions."""
        return len(self._asked) * self._num_samples

    def finish(self) -> list[Failure]:
        """Rolls out and records the missing answers, and joins the files.

        Returns:
          The answers that a model server failed to give, of all processes.
        """
        keys = [key for i in range(len(self._asked)) for key in self._keys(i)]
        self._done = self._log.read(keys)
        todo = [
            (i, question)
            for i, (_, question) in enumerate(self._asked)
            if not self._done.issuperset(self._keys(i))
        ]
        own = processes.process_shard(todo)
        num_new = len(own) * self._num_samples
        with (
            progress(num_new, len(self._done)) as self._advance,
            Recorder(self._record) as recorder,
        ):
            if own:
                self._subject.sampler.run(
                    self._subject.params,
                    own,
                    self._subject.environment,
                    group_size=self._num_samples,
                    stage=EVALUATION_STAGE,
                    temperature=self._temperature,
                    on_finished=recorder.add,
                )
        parts = processes.all_gather_objects(self._failures)
        failures = [failure for part in parts for failure in part]
        failed = {failure.key for failure in failures}
        self._log.join([key for key in keys if key not in failed])
        processes.on_primary(lambda: write_failures(self._out, failures))
        return failures

    def _keys(self, prompt_index: int) -> list[Key]:
        name, question = self._asked[prompt_index]
        return [Key(name, question.id, i) for i in range(self._num_samples)]

    def _record(self, finished: list[Trajectory]) -> None:
        """Judges rollouts and appends their lines.

        If only some samples of a group have lines, the whole group is rolled out again;
        the samples that have lines are the same as before and are left out.
        """
        found = {
            Key(self._asked[t.prompt_index][0], t.question_id, t.sample_index): t
            for t in finished
        }
        asked = {key: t for key, t in found.items() if key not in self._done}
        new = {k: t for k, t in asked.items() if t.status is not Status.MODEL_FAILED}
        self._failures += [
            Failure(key, t.failure) for key, t in asked.items() if key not in new
        ]
        judged = judge(list(new.values()), self._subject.task)
        lines = [
            prediction_line(*row, set_name=key.set_name) | self._opened
            for key, *row in zip(new, *judged, strict=True)
        ]
        if self._keeps_tokens:
            tokens = map(token_fields, new.values())
            lines = [line | more for line, more in zip(lines, tokens, strict=True)]
        self._log.append(list(zip(new, lines, strict=True)))
        self._advance(len(asked))


def _sources(sets: Sequence[QuestionSet]) -> str | dict[str, str]:
    """The source of each set by its name, or that of the only set."""
    sources = {one.name: one.source or "the run's own" for one in sets}
    return sources if len(sources) > 1 else next(iter(sources.values()))


def _claim(out: Path, settings: dict[str, Any], labels: Mapping[str, Any]) -> None:
    """Checks that the folder is new or of this evaluation, and records the settings.

    Raises:
      ValueError: if it is not; the error shows both evaluations.
    """
    there = read_settings(out, KIND)
    if there is None:
        write_settings(out, {"labels": dict(labels), **settings})
        return
    theirs = there.pop("labels", {})
    if there.get("policy") != settings.get("policy"):
        raise ValueError(
            f"{out} holds another {KIND}: of {_shown(theirs)} there and of "
            f"{_shown(labels)} here; choose another folder with --out"
        )
    here = json.loads(json.dumps(settings))
    if _digests(there) != _digests(here):
        sets = [", ".join(map(_set_text, one["questions"])) for one in (there, here)]
        raise ValueError(
            f"{out} holds another {KIND}: of {sets[0]} there and of {sets[1]} here; "
            "choose another folder with --out"
        )
    # The question files may have been moved.
    there["questions"] = here["questions"]
    check_settings(out, there, here, KIND)


def _shown(labels: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items())


def _set_text(record: Mapping[str, Any]) -> str:
    """A set of questions in words, from its record."""
    source, seed = record["source"] or "the run's own", record["sample_seed"]
    chosen = "" if seed is None else f", sampled with seed {seed}"
    return (
        f"{record['name']} ({record['n']} of {record['of']} questions, {source}"
        f"{chosen}, digest {record['digest']})"
    )


def _digests(settings: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(one["name"], one["digest"]) for one in settings["questions"]]
