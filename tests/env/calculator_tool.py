"""A calculator: a tool in a user's file, given by value in a config.

`environment=tests.env.calculator_tool.with_search` gives a run both tools.
"""

import ast
import operator

from jaxsearch.env.environment import Environment, Observation, text_between
from jaxsearch.env.tools import Tools
from jaxsearch.trajectory import ToolCall

OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def value_of(node):
    """The value of an arithmetic expression; numbers, + - * / and brackets."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](value_of(left), value_of(right))
        case ast.UnaryOp(op, operand) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](value_of(operand))
    raise ValueError("only numbers, + - * / and brackets")


class Calculator(Environment):
    """Answers `<calc> 2 * 3 </calc>` with `<value> 6 </value>`."""

    stop_tags = ("</calc>",)
    control_tags = ("<calc>", "<value>", "</value>")

    def step(self, turns):
        return [self.answer(text_between(t, "<calc>", "</calc>")) for _, t in turns]

    def answer(self, expression):
        try:
            result = str(value_of(ast.parse(expression or "", mode="eval").body))
            call = ToolCall(tool="calculator", query=expression)
        except (SyntaxError, ValueError, ArithmeticError) as error:
            result = f"error: {error}"
            call = ToolCall(
                tool="calculator",
                query=expression or "",
                has_failed=True,
                failure=result,
            )
        return Observation(
            call=call, parts=(f" {result} ",), opening=" <value>", closing="</value>"
        )


def alone(inputs):
    return Calculator()


def with_search(inputs):
    return Tools(inputs.search(), Calculator())
