"""Checks of custom environments: of tags when a run starts, and of answers later."""

import itertools
from collections.abc import Sequence
from typing import Any

from jaxsearch.env.environment import Done, Environment, Observation
from jaxsearch.protocol import Protocol


def check_own_tags(environment: Environment) -> None:
    """Checks the form of an environment's stop tags and control tags.

    Raises:
      ValueError: if they are not a tuple or list of non-empty strings. A single string
        would be treated as one tag per letter.
    """
    name = type(environment).__name__
    for field, tags in (
        ("stop_tags", environment.stop_tags),
        ("control_tags", environment.control_tags),
    ):
        is_sequence = isinstance(tags, tuple | list)
        if not is_sequence or not all(isinstance(tag, str) and tag for tag in tags):
            raise ValueError(
                f"{name}.{field} must be a tuple of non-empty strings, got "
                f'{tags!r:.80}; write ("<tag>",) for a single one'
            )


def check_tags_differ(environment: Environment, protocol: Protocol) -> None:
    """Checks that the tags of an environment cannot be confused in a text.

    A tag may occur several times, and may be one of the protocol's tags.

    Raises:
      ValueError: if a tag contains another one, or contains or is contained in a tag of
        the protocol.
    """
    protocol_tags = (*protocol.control_tags, *protocol.stop_tags)
    own_tags = (*environment.stop_tags, *environment.control_tags)
    owners = dict.fromkeys(own_tags, type(environment).__name__)
    owners |= dict.fromkeys(protocol_tags, f"protocol {protocol.name!r}")
    for tag, other in itertools.permutations(owners, 2):
        is_checked = tag in own_tags or other in own_tags
        if is_checked and tag in other:
            raise ValueError(
                f"tag {tag!r} of {owners[tag]} is contained in {other!r} of "
                f"{owners[other]}; choose tags that cannot be confused"
            )


def check_answers(environment: Environment, answers: Any, num_turns: int) -> None:
    """Checks the return value of `step`.

    Raises:
      RuntimeError: if it is not one observation or `Done` for each turn.
    """
    step = f"{type(environment).__name__}.step"
    if isinstance(answers, str | bytes) or not isinstance(answers, Sequence):
        raise RuntimeError(
            f"{step} must return a list of Observation or Done, got "
            f"{type(answers).__name__}"
        )
    if len(answers) != num_turns:
        raise RuntimeError(
            f"{step} answered {len(answers)} of {num_turns} turns; it must return one "
            "answer for each turn"
        )
    for answer in answers:
        if not isinstance(answer, Observation | Done):
            raise RuntimeError(
                f"{step} must return Observation or Done for each turn, got "
                f"{type(answer).__name__}"
            )


def check_observations(environment: Environment, observations: Any) -> None:
    """Checks the return value of `shortest_observations`.

    Raises:
      ValueError: if it is not a list of observations.
    """
    is_sequence = isinstance(observations, Sequence)
    for one in observations if is_sequence else [observations]:
        if not isinstance(one, Observation):
            raise ValueError(
                f"{type(environment).__name__}.shortest_observations must return a "
                f"list of Observation, got {type(one).__name__}"
            )
