"""Recipes: what a system asks of a rollout and how it judges it, by name."""

import dataclasses
import difflib
import importlib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxsearch.protocol import (
    QUICKSTART,
    QUICKSTART_R1_SEARCHER,
    R1_SEARCHER,
    RESEARCH,
    SEARCH_R1,
    Protocol,
)
from jaxsearch.rewards import r1_searcher, research, search_r1
from jaxsearch.rewards.answers import (
    Normalise,
    cover_em,
    exact_match,
    f1,
    normalise_r1_searcher,
    normalise_research,
)
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.trajectory import Segment


class RewardError(ValueError):
    """A reward function raised, or returned something that is no Outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A protocol, its reward and its normaliser.

    Attributes:
      reward: (segments, golden_answers, *, has_ended) -> Outcome; judges the policy.
      reward_of_text: (response, golden_answers, *, has_ended) -> Outcome; judges a
        text without provenance as the reference does.
      uses_end: whether the reward depends on `has_ended`.
      normalise: for `metrics`.
    """

    name: str
    protocol: Protocol
    reward: Callable[..., Outcome]
    reward_of_text: Callable[..., Outcome]
    uses_end: bool
    normalise: Normalise

    def judged(
        self,
        segments: Sequence[Segment],
        golden_answers: Sequence[str],
        *,
        has_ended: bool,
        whose: str,
    ) -> Outcome:
        """`reward` of a rollout.

        Errors: RewardError, with `whose` in it.
        """
        return self._outcome(self.reward, segments, golden_answers, has_ended, whose)

    def judged_text(
        self,
        response: str,
        golden_answers: Sequence[str],
        *,
        has_ended: bool,
        whose: str,
    ) -> Outcome:
        """`reward_of_text` of a response.

        Errors: RewardError, with `whose` in it.
        """
        return self._outcome(
            self.reward_of_text, response, golden_answers, has_ended, whose
        )

    def _outcome(
        self,
        reward: Callable[..., Outcome],
        judged: str | Sequence[Segment],
        golden_answers: Sequence[str],
        has_ended: bool,
        whose: str,
    ) -> Outcome:
        try:
            outcome = reward(judged, golden_answers, has_ended=has_ended)
        except Exception as error:  # a user's function may raise anything
            raise RewardError(
                f"{_in_words(error)}; in the reward of {whose} by recipe {self.name!r}"
            ) from error
        if not isinstance(outcome, Outcome):
            raise RewardError(
                f"a reward must be an Outcome, got {outcome!r:.80}; in the reward of "
                f"{whose} by recipe {self.name!r}"
            )
        return outcome

    def metrics(
        self, prediction: str | None, golden_answers: Sequence[str]
    ) -> dict[str, float]:
        """`em`, `f1` and `cover_em` in 0..1; all 0 where there is no prediction."""
        if prediction is None:
            return {"em": 0.0, "f1": 0.0, "cover_em": 0.0}
        return {
            "em": exact_match(prediction, golden_answers, self.normalise),
            "f1": f1(prediction, golden_answers, self.normalise),
            "cover_em": cover_em(prediction, golden_answers, self.normalise),
        }


_RESEARCH = Task(
    name="research",
    protocol=RESEARCH,
    reward=research.research,
    reward_of_text=research.research_text,
    uses_end=True,
    normalise=normalise_research,
)
_R1_SEARCHER_STAGE1 = Task(
    name="r1_searcher_stage1",
    protocol=R1_SEARCHER,
    reward=r1_searcher.r1_searcher_stage1,
    reward_of_text=r1_searcher.r1_searcher_stage1_text,
    uses_end=False,
    normalise=normalise_r1_searcher,
)
_R1_SEARCHER_STAGE2 = dataclasses.replace(
    _R1_SEARCHER_STAGE1,
    name="r1_searcher_stage2",
    reward=r1_searcher.r1_searcher_stage2,
    reward_of_text=r1_searcher.r1_searcher_stage2_text,
)
_SEARCH_R1 = Task(
    name="search_r1",
    protocol=SEARCH_R1,
    reward=search_r1.search_r1,
    reward_of_text=search_r1.search_r1_text,
    uses_end=False,
    normalise=normalise_research,
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _RESEARCH,
        dataclasses.replace(
            _RESEARCH,
            name="research_paper",
            reward=research.research_paper,
            reward_of_text=research.research_paper_text,
            uses_end=False,
        ),
        _R1_SEARCHER_STAGE1,
        _R1_SEARCHER_STAGE2,
        dataclasses.replace(
            _R1_SEARCHER_STAGE1,
            name="r1_searcher_qwen",
            reward=r1_searcher.r1_searcher_qwen,
            reward_of_text=r1_searcher.r1_searcher_qwen_text,
        ),
        dataclasses.replace(
            _R1_SEARCHER_STAGE1,
            name="r1_searcher_llama_stage1",
            reward=r1_searcher.r1_searcher_llama_stage1,
            reward_of_text=r1_searcher.r1_searcher_llama_stage1_text,
        ),
        dataclasses.replace(
            _R1_SEARCHER_STAGE1,
            name="r1_searcher_llama_stage2",
            reward=r1_searcher.r1_searcher_llama_stage2,
            reward_of_text=r1_searcher.r1_searcher_llama_stage2_text,
        ),
        _SEARCH_R1,
        dataclasses.replace(
            _SEARCH_R1,
            name="search_r1_format",
            reward=search_r1.search_r1_format,
            reward_of_text=search_r1.search_r1_format_text,
        ),
        dataclasses.replace(_RESEARCH, name="quickstart", protocol=QUICKSTART),
        dataclasses.replace(
            _R1_SEARCHER_STAGE1,
            name="quickstart_r1_searcher_stage1",
            protocol=QUICKSTART_R1_SEARCHER,
        ),
        dataclasses.replace(
            _R1_SEARCHER_STAGE2,
            name="quickstart_r1_searcher_stage2",
            protocol=QUICKSTART_R1_SEARCHER,
        ),
    )
}


def task_named(name: str) -> Task:
    """The recipe of that name, or one's own: `package.module:NAME`.

    A `Recipe` in any module that Python finds serves in training, `eval` and `score`.

    Errors: ValueError that lists near names, or says what the module lacks.
    """
    if name in TASKS:
        return TASKS[name]
    if ":" in name:
        return _imported(name)
    near = difflib.get_close_matches(name, TASKS)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
        f"unknown recipe {name!r}; {hint}The recipes are {', '.join(TASKS)}"
    )


def _imported(name: str) -> Task:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"recipe {name!r}: cannot import {module_name} ({error}); its folder must "
            "be on PYTHONPATH"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"recipe {name!r}: cannot import {module_name!r}: {_in_words(error)}"
        ) from error
    task = vars(module).get(attribute)
    if not isinstance(task, Task):
        raise ValueError(
            f"recipe {name!r}: expected a Recipe called {attribute} in {module_name}, "
            f"got {type(task).__name__}"
        )
    return task


def _in_words(error: Exception) -> str:
    """What our own errors say; others with their kind, and where they come from."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    if Path(at.filename).is_relative_to(Path(__file__).parent):
        return str(error)
    return (
        f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
    )
