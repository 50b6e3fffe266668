"""Reading a config from a Python file."""

import dataclasses
import difflib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.run.old_names import OLD_MODULES, OLD_VALUES, new_keyword
from jaxsearch.user_code import add_folder


def read_config(path: str) -> RunConfig:
    """The `config` of a Python file, with the run folder filled in.

    The file can import the modules beside it, and so can all code afterwards.

    Raises:
      ValueError: if the file does not exist, raises, or defines no RunConfig.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [p.name for p in file.parent.glob("*.py")]
        )
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(f"config file {path} does not exist{hint}")
    module = ModuleType(file.stem)
    names: dict[str, Any] = vars(module)
    names["__file__"] = str(file)
    add_folder(file.parent)
    # Dataclasses look up the module that they are defined in. It goes again, because
    # a run's folder cannot name what only a config file defines.
    is_new = sys.modules.setdefault(file.stem, module) is module
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), names)
    except Exception as error:  # a user's file may raise anything
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == file.resolve()
        ]
        where = f", line {lines[-1]}" if lines else ""
        raise ValueError(
            f"config file {path}{where}: {type(error).__name__}: {error}"
            f"{_renamed(error)}"
        ) from error
    finally:
        if is_new:
            del sys.modules[file.stem]
    config = names.get("config")
    if not isinstance(config, RunConfig):
        raise ValueError(
            f"config file {path} must define `config = RunConfig(...)`, "
            f"got {type(config).__name__}"
        )
    if config.out:
        return config
    return dataclasses.replace(config, out=f"runs/{file.stem}")


def _renamed(error: Exception) -> str:
    """A hint about a keyword, attribute or module that was renamed; "" if none was."""
    text = str(error)
    old = new = ""
    if isinstance(error, TypeError) and "unexpected keyword argument" in text:
        old = text.split("'")[1]
        new = new_keyword(old)
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        old = f"{error.obj.__name__}:{error.name}"
        new = OLD_VALUES.get(old, "")
    elif isinstance(error, ModuleNotFoundError) and error.name:
        old = error.name
        new = OLD_MODULES.get(old, "")
    return f"; {old} is now called {new}" if new else ""
