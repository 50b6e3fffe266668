"""Checks that the functions of a config can be called as the run will call them."""

from collections.abc import Callable
from typing import Any

from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.rl.credit import requirements_of
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Retriever
from jaxsearch.user_code import call_error


def check_signatures(config: RunConfig) -> None:
    """Checks every function of the config, without calling it.

    Most of them are called after the run's folder was written, some after hours.

    Raises:
      ValueError: if a function does not take the arguments that the run gives it.
    """
    _check(config.data.source, "data.source", "run_folder", "seed")
    _check(config.environment, "environment", "inputs")
    retriever, encoder = config.retrieval.retriever, config.retrieval.encoder
    if retriever is not None and not is_made(retriever, Retriever):
        _check(retriever, "retrieval.retriever")
    if config.retrieval.web is not None:
        _check(config.retrieval.web, "retrieval.web", "query")
    if not isinstance(encoder, str) and not is_made(encoder, Encoder):
        _check(encoder, "retrieval.encoder", "passages")
    for number, stage in enumerate(config.stages):
        if isinstance(stage, SupervisedStage):
            _check(stage.demonstrations, f"stages.{number}.demonstrations", "seed")
        if isinstance(stage, RLStage):
            needs_rollouts = requirements_of(stage.advantage).rollouts
            arguments = ("rewards", "is_kept", "rollouts")[: 2 + needs_rollouts]
            _check(stage.advantage, f"stages.{number}.advantage", *arguments)


def is_made(value: Any, kind: type) -> bool:
    """Whether a value is an object of the protocol `kind`, not what makes one.

    A class has the members of its instances, so it passes for one of them.
    """
    return isinstance(value, kind) and not isinstance(value, type)


def _check(function: Callable[..., Any], field: str, *arguments: str) -> None:
    if not callable(function):
        raise ValueError(
            f"{field} must be a function of ({', '.join(arguments)}), got "
            f"{function!r:.80}"
        )
    if error := call_error(function, *arguments):
        raise ValueError(
            f"{field} is called with ({', '.join(arguments)}), but {function!r:.80} "
            f"takes {error}"
        )
