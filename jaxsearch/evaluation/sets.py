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
from jaxsearch.evaluation.prediction_log import Key, PredictionLog
from jaxsearch.evaluation.predictions import prediction_line, write_results
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
from jaxsearch.trajectory import Trajectory

KIND = "evaluation"  # what a folder holds, in messages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated: a policy with its tools and its task.

    Attributes:
      sampler: makes the rollouts.
      params: parameters of the policy, as the sampler takes them.
      environment: the tools that answer the policy.
      task: judges the rollouts.
      labels: name of the model and other lines for `results.json`, as JSON values.
      identity: all that decides the rollouts, as JSON values; an evaluation goes on
        only in a folder with the same ones.
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
) -> dict[str, Any]:
    """Evaluates sets of questions; writes `predictions.jsonl` and `results.json`.

    All sets go through one queue, so that slots never wait between them. Predictions
    are appended to the file as rollouts finish. The same call goes on where it was
    stopped: it rolls out only what has no line yet. The processes of a run share the
    questions, and all of them return the results.

    Args:
      out: folder to write; new, empty, or of the same evaluation.
      subject: what is evaluated.
      sets: the sets, with different names.
      num_samples: answers per question.
      temperature: sampling temperature; 0 is greedy.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, or the folder holds something else.
    """
    if not sets or not all(one.questions for one in sets):
        raise ValueError("expected at least one question in each set to evaluate on")
    settings = {
        **subject.identity,
        "recipe": subject.task.name,
        "questions": [one.record() for one in sets],
        "samples": num_samples,
        "temperature": temperature,
    }
    check_same(settings, "settings")
    processes.on_primary(lambda: _claim(out, settings, subject.labels))
    _Rollouts(out, subject, sets, num_samples, temperature).finish()
    results: dict[str, Any] = {}
    if processes.is_primary():
        results = {
            **subject.labels,
            "recipe": subject.task.name,
            "questions": _sources(sets),
            "temperature": temperature,
            **results_of_sets(
                read_answers(out / "predictions.jsonl", subject.task.normalise)
            ),
        }
        write_results(out, results)
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
    ):
        self._subject = subject
        self._num_samples = num_samples
        self._temperature = temperature
        # The index in this list is the prompt_index, which decides the random keys.
        self._asked = [(one.name, q) for one in sets for q in one.questions]
        self._log = PredictionLog(out)
        self._opened = opened_field(subject.task.protocol.opened)

    def finish(self) -> None:
        """Rolls out and records what is missing, and joins the files."""
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
        self._log.join(keys)

    def _keys(self, prompt_index: int) -> list[Key]:
        name, question = self._asked[prompt_index]
        return [Key(name, question.id, i) for i in range(self._num_samples)]

    def _record(self, finished: list[Trajectory]) -> None:
        """Judges rollouts and appends their lines.

        A group of which some samples have lines is rolled out again as a whole; these
        samples are the same again and are left out.
        """
        found = {
            Key(self._asked[t.prompt_index][0], t.question_id, t.sample_index): t
            for t in finished
        }
        new = {key: t for key, t in found.items() if key not in self._done}
        judged = judge(list(new.values()), self._subject.task)
        lines = [
            prediction_line(*row, set_name=key.set_name) | self._opened
            for key, *row in zip(new, *judged, strict=True)
        ]
        self._log.append(list(zip(new, lines, strict=True)))
        self._advance(len(new))


def _sources(sets: Sequence[QuestionSet]) -> str | dict[str, str]:
    """The source of each set by its name, or that of the only set."""
    sources = {one.name: one.source or "the run's own" for one in sets}
    return sources if len(sources) > 1 else next(iter(sources.values()))


def _claim(out: Path, settings: dict[str, Any], labels: Mapping[str, Any]) -> None:
    """Checks that the folder is new or of this evaluation, and records the settings.

    Raises:
      ValueError: if it is not; the error names both evaluations.
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
    # The same questions may have been moved.
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
