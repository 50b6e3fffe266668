"""Code of the user: modules named as `module:NAME`, and functions given by value."""

import importlib
import importlib.machinery
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def import_named(module: str, *folders: Path) -> ModuleType:
    """Imports a module that Python finds, or one in these folders or the current one.

    The current folder is not on Python's path when an installed command runs. A folder
    is appended to the path, at the end, only if it has a module that is not found
    otherwise; so its files never replace those of installed packages.

    Args:
      module: dotted name of the module.
      folders: folders to search before the current one.

    Raises:
      ImportError: if there is no such module.
      Exception: whatever the module itself raises.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Another name is missing inside a module that was found.
        if error.name != package:
            raise
    for folder in (*folders, Path.cwd()):
        path = str(folder.resolve())
        if importlib.machinery.PathFinder.find_spec(package, [path]) is not None:
            sys.path.append(path)
            importlib.invalidate_caches()
            break
    return importlib.import_module(module)


def call_error(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """The signature of a function and why these arguments do not fit; "" if they do.

    The function is not called.
    """
    try:
        # A decorated function is called with the arguments of its wrapper.
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return ""  # some functions that are written in C have no signature
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        return f"{signature}: {error}"
    return ""


def error_text(error: Exception) -> str:
    """The message of an error; if it is from elsewhere, with its type and line."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    is_ours = Path(at.filename).is_relative_to(Path(__file__).parent)
    if is_ours and isinstance(error, ValueError):
        return str(error)
    return (
        f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
    )
