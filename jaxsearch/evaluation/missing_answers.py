"""The answers of an evaluation that have no line yet: rollouts, judging, lines."""

from collections.abc import Sequence
from pathlib import Path

from jaxsearch import processes
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.evaluation.model_failures import Failure, write_failures
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.prediction_log import Key, PredictionLog
from jaxsearch.evaluation.predictions import prediction_line, token_fields
from jaxsearch.evaluation.progress import progress
from jaxsearch.evaluation.question_sets import QuestionSet
from jaxsearch.evaluation.recorder import Recorder
from jaxsearch.evaluation.subject import Subject
from jaxsearch.monitor.rollout_log import opened_field
from jaxsearch.rewards.judge import judge
from jaxsearch.trajectory import Status, Trajectory


class MissingAnswers:
    """Rolls out the answers that have no line yet, and appends their lines.

    Args:
      out: the folder of the evaluation.
      subject: the policy to evaluate.
      sets: the sets of questions.
      answers: answers per question, temperature, and what is kept.
    """

    def __init__(
        self,
        out: Path,
        subject: Subject,
        sets: Sequence[QuestionSet],
        answers: AnswerOptions,
    ):
        self._out = out
        self._subject = subject
        self._answers = answers
        self._failures: list[Failure] = []
        # The index in this list is the prompt_index, which determines the random keys.
        self._asked = [(one.name, q) for one in sets for q in one.questions]
        self._log = PredictionLog(out)
        self._opened = opened_field(subject.task.protocol.opened)

    @property
    def num_all(self) -> int:
        """Number of answers to all questions."""
        return len(self._asked) * self._answers.num_samples

    def roll_out(self) -> list[Failure]:
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
        num_new = sum(key not in self._done for i, _ in own for key in self._keys(i))
        with (
            progress(num_new, len(self._done)) as self._advance,
            Recorder(self._record) as recorder,
        ):
            if own:
                self._subject.sampler.run(
                    self._subject.params,
                    own,
                    self._subject.environment,
                    group_size=self._answers.num_samples,
                    stage=EVALUATION_STAGE,
                    temperature=self._answers.sampling_temperature,
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
        num_samples = self._answers.num_samples
        return [Key(name, question.id, i) for i in range(num_samples)]

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
        if self._answers.keeps_tokens:
            tokens = map(token_fields, new.values())
            lines = [line | more for line, more in zip(lines, tokens, strict=True)]
        self._log.append(list(zip(new, lines, strict=True)))
        self._advance(len(asked))
