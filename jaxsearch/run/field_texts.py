"""The texts under the fields of our config classes, for the help of the commands."""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping


@functools.cache
def field_texts(owner: type) -> Mapping[str, str]:
    """The string under each field of a dataclass of this package, on one line.

    Fields of its base classes are included. Classes of other packages have no texts:
    their source may be unavailable.
    """
    texts: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.partition(".")[0] != "jaxsearch":
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        if not isinstance(definition, ast.ClassDef):
            continue
        for field, following in itertools.pairwise(definition.body):
            if not isinstance(field, ast.AnnAssign):
                continue
            text = _text(following)
            if text and isinstance(field.target, ast.Name):
                texts[field.target.id] = text
    return texts


def _text(statement: ast.stmt) -> str:
    """The text of a statement that is only a string, on one line; "" for others."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""
