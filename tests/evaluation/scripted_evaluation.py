"""An evaluation with a sampler that writes what a script says, in processes.

Not a test: `test_stopped_evaluation.py` starts it. Arguments: the folder to write, the
number of the process that is killed, and after how many rollouts; nothing for none.
"""

import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from jaxsearch import processes
from jaxsearch.data.question import Question
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.question_sets import QuestionSet
from jaxsearch.evaluation.sets import evaluate_sets
from jaxsearch.evaluation.subject import Subject
from jaxsearch.rewards.tasks import RESEARCH
from jaxsearch.rollouts.records import Timing
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory

SETS = [
    QuestionSet(
        name=name,
        source=f"{name}.jsonl",
        num_all=20,
        questions=[
            Question(
                id=f"q{i}",
                question=f"Who is {i} of {name}?",
                golden_answers=("Ann",),
                metadata={"hops": str(1 + i % 2)},
            )
            for i in range(20)
        ],
    )
    for name in ("a", "b")
]


def trajectory(prompt_index: int, question: Question, sample: int) -> Trajectory:
    answer = "Ann" if (prompt_index + sample) % 3 else "Bob"
    return Trajectory(
        question_id=question.id,
        question=question.question,
        golden_answers=question.golden_answers,
        prompt_index=prompt_index,
        sample_index=sample,
        tokens=np.arange(9, dtype=np.int32),
        is_policy=np.arange(9) > 3,
        logprobs=np.zeros(9, np.float32),
        sampling_logprobs=np.zeros(9, np.float32),
        prompt_len=3,
        segments=(
            Segment(text="<think> x </think>", is_policy=True),
            Segment(text="<result> Ann </result>", is_policy=False),
            Segment(text=f"<answer> \\boxed{{{answer}}} </answer>", is_policy=True),
        ),
        tool_calls=(ToolCall(query="x"),) * (1 + prompt_index % 2),
        status=Status.ANSWERED,
        metadata=question.metadata,
    )


class ScriptedSampler:
    """Finishes rollouts one by one, the last question first."""

    def __init__(self, num_before_kill: int | None):
        self.num_left = num_before_kill

    def run(self, params, questions, environment, *, group_size, on_finished, **_):
        num_done = 0
        for prompt_index, question in reversed(questions):
            for sample in range(group_size):
                if self.num_left == num_done:
                    time.sleep(0.2)  # the other thread writes
                    os.kill(os.getpid(), signal.SIGKILL)
                on_finished(trajectory(prompt_index, question, sample))
                num_done += 1
        return [], Timing()


def main(out: str, killed: str = "-1", num_before_kill: str = "0") -> None:
    processes.start()
    is_killed = jax.process_index() == int(killed)
    subject = Subject(
        sampler=ScriptedSampler(int(num_before_kill) if is_killed else None),
        params={},
        environment=None,
        task=RESEARCH,
        labels={"model": "script"},
        identity={"policy": "script"},
    )
    results = evaluate_sets(Path(out), subject, SETS, AnswerOptions(num_samples=2))
    assert results["n"] == 40 and len(results["sets"]) == 2
    processes.end(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
