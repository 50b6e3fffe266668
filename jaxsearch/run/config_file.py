"""Reading a config from a Python file."""

import dataclasses
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.run.config_names import find_config
from jaxsearch.run.old_names import OLD_MODULES, OLD_VALUES, new_keyword


def read_config(path: str) -> RunConfig:
    """The `config` of a Python file, with the run folder filled in.

    Args:
      path: the file, or the name of one of the package's configs.

    Raises:
      ValueError: if there is no such file, it raises, or it defines no RunConfig.
    """
    file = find_config(path)
    module = ModuleType(file.stem)
    names: dict[str, Any] = vars(module)
    names["__file__"] = str(file)
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
