"""Tools made of one function."""

import functools

import pytest

from jaxsearch.env.function_tool import FunctionTool, _name_of
from jaxsearch.protocol.tags import ToolTags, xml_tags
from tests.environments import turns


def halve(text):
    return int(text) / 2


def text_of(tool, call):
    [observation] = tool.step(turns(call))
    return observation.text(observation.parts), observation.call


def test_the_function_answers_the_text_between_the_tags():
    tool = FunctionTool(halve)
    text, call = text_of(tool, "so <halve> 7 </halve>")
    assert text == " <halve_result> 3.5 </halve_result>"
    assert (call.tool, call.query, call.has_failed) == ("halve", "7", False)
    assert repr(tool) == (
        "FunctionTool('halve', <halve></halve> -> <halve_result></halve_result>)"
    )


def test_tags_and_name_of_ones_own():
    tags = ToolTags(call=xml_tags("half"), result=xml_tags("value"))
    tool = FunctionTool(functools.partial(halve), name="halves", tags=tags)
    text, call = text_of(tool, "<half>8</half>")
    assert (text, call.tool) == (" <value> 4.0 </value>", "halves")
    assert tool.stop_tags == ("</half>",)
    assert set(tool.control_tags) == {"<half>", "<value>", "</value>"}


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        ("<halve> x </halve>", "error: invalid literal for int"),
        ("7 </halve>", "error: no <halve>"),
    ],
)
def test_a_call_that_makes_no_sense_is_answered_with_the_error(call, failure):
    text, found = text_of(FunctionTool(halve), call)
    assert found.has_failed and found.failure.startswith(failure)
    assert found.failure in text


def test_a_defect_of_the_function_is_not_hidden():
    with pytest.raises(TypeError):
        text_of(FunctionTool(lambda text: text + 1, name="broken"), "<broken></broken>")


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda text: text, {}, "a name of letters and digits, got '<lambda>'"),
        (functools.partial(halve), {}, "got '': give name="),
        (halve, {"tags": ToolTags(call=xml_tags("a"))}, "needs tags for its results"),
    ],
    ids=["lambda", "partial", "tags"],
)
def test_tools_that_are_refused(function, options, message):
    with pytest.raises(ValueError, match=message):
        FunctionTool(function, **options)


def test_a_text_is_no_function():
    with pytest.raises(ValueError, match="a function from text to text, got 'halve'"):
        _name_of("halve", "")
