"""Invalid tags and answers of a user's environment raise a clear one-line error."""

import dataclasses
from pathlib import Path

import pytest

from jaxsearch.env.environment import Done, Environment, Observation
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.env.tools import Tools
from jaxsearch.protocol import QUICKSTART
from jaxsearch.train import train
from jaxsearch.trajectory import ToolCall
from tests.env.calculator_tool import Calculator
from tests.env.sums import sums_config, tokenizer
from tests.environments import turns

CALL = ToolCall(tool="echo", query="")


class Echo(Environment):
    """Gives the same answers, whatever the turns."""

    stop_tags = ("</echo>",)

    def __init__(self, answers=(), shortest=()):
        self.answers = answers
        self.shortest = shortest

    def step(self, turns):
        return self.answers

    def shortest_observations(self):
        return self.shortest


def check_again(answer, **fields):
    """Checks an answer with other fields, without the annotation checks of tests."""
    for name, value in fields.items():
        object.__setattr__(answer, name, value)
    type(answer).__post_init__(answer)


def tagged(stop_tags, control_tags=()):
    environment = Echo()
    environment.stop_tags, environment.control_tags = stop_tags, control_tags
    return environment


def as_tokens(environment):
    return TokenEnvironment(
        environment=environment,
        protocol=QUICKSTART,
        tokenizer=tokenizer(),
        max_observation_len=20,
    )


@pytest.mark.parametrize("wrong", ["</echo>", None, ("",), (5,), {"</echo>": 1}])
@pytest.mark.parametrize("field", ["stop_tags", "control_tags"])
def test_tags_are_a_tuple_of_strings(field, wrong):
    tags = {"stop_tags": ("</echo>",)} | {field: wrong}
    match = rf"Echo.{field} must be a tuple of non-empty strings, got "
    for made in (as_tokens, Tools):
        with pytest.raises(ValueError, match=match):
            made(tagged(**tags))


@pytest.mark.parametrize(
    ("stop_tags", "control_tags", "match"),
    [
        ((">",), (), "'>' of Echo is contained in '<think>' of protocol 'quickstart'"),
        (("<<search>",), (), "'<search>' of protocol 'quickstart' is contained in"),
        (("</calc", "</calc>"), (), "'</calc' of Echo is contained in '</calc>'"),
        (("</calc>",), ("lc",), "'lc' of Echo is contained in '</calc>' of Echo"),
    ],
)
def test_a_tag_is_not_contained_in_another(stop_tags, control_tags, match):
    with pytest.raises(ValueError, match=match):
        as_tokens(tagged(stop_tags, control_tags))
    with pytest.raises(ValueError, match="of Tools is contained in"):
        as_tokens(Tools(Calculator(), tagged(("</calc",))))


def test_equal_tags_and_those_of_the_protocol_are_no_conflict():
    own = ("</search>", "</echo>", "</echo>")
    environment = as_tokens(tagged(own, ("</echo>", "<result>")))
    assert environment.stop_tags == ("</search>", "</echo>")


def letters(inputs):
    return tagged("</calc>")


def without_letters(inputs):
    return tagged(("",))


@pytest.mark.parametrize("environment", [letters, without_letters])
def test_a_run_with_wrong_tags_writes_nothing(tmp_path, environment):
    config = sums_config(tmp_path / "run", has_search=False)
    config = dataclasses.replace(config, environment=environment)
    with pytest.raises(ValueError, match="Echo.stop_tags must be a tuple"):
        train(config)
    assert not Path(config.out).exists()


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (None, "Echo.step must return a list of Observation or Done, got NoneType"),
        ("55", "Echo.step must return a list of Observation or Done, got str"),
        (["5", "5"], "Echo.step must return Observation or Done .* got str"),
        ([Done(), None], "Echo.step must return Observation or Done .* got NoneType"),
        ([Done()], "Echo.step answered 1 of 2 turns"),
    ],
)
def test_a_step_returns_observations_or_done(answers, match):
    for environment in (Echo(answers), Tools(Echo(answers))):
        with pytest.raises(RuntimeError, match=match):
            as_tokens(environment).step(turns("a</echo>", "b</echo>"))


@pytest.mark.parametrize("shortest", [None, ["5"], [Done()]])
def test_the_shortest_observations_are_observations(shortest):
    match = "Echo.shortest_observations must return a list of Observation"
    with pytest.raises(ValueError, match=match):
        as_tokens(Echo(shortest=shortest))
    with pytest.raises(ValueError, match=match):
        as_tokens(Tools(Echo(shortest=shortest)))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"call": None}, "call must be a ToolCall, got None"),
        ({"parts": (5,)}, r"parts must be a tuple of strings, got \(5,\)"),
        ({"parts": "text"}, "parts must be a tuple of strings, got 'text'"),
        ({"opening": None}, "opening and closing must be strings"),
        ({"closing": 5}, "opening and closing must be strings"),
        ({"render": "text"}, "render must be a function, got 'text'"),
    ],
)
def test_an_observation_checks_its_fields(fields, match):
    with pytest.raises(ValueError, match=f"Observation: {match}"):
        check_again(Observation(call=CALL, parts=()), **fields)


def test_a_rendered_observation_is_a_string():
    observation = Observation(call=CALL, parts=("is",), render=len)
    with pytest.raises(ValueError, match="render must return a string, got int"):
        as_tokens(Echo()).encode(observation)


def test_the_call_of_done_is_a_tool_call():
    with pytest.raises(ValueError, match="call must be a ToolCall or None, got 'no'"):
        check_again(Done(), call="no")
