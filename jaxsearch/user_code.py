"""Code of the user: modules and files that they name, and functions they give."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_OWN_FOLDER = Path(__file__).resolve().parent


def import_named(module: str, *folders: Path) -> ModuleType:
    """Imports a module that Python finds, or one in these folders or the current one.

    A name that ends in .py is the path of a file, relative to the current folder or to
    one of these, which is imported as the module with its name.

    Args:
      module: dotted name of the module, or path of a file.
      folders: folders to search before the current one.

    Raises:
      ImportError: if there is no such module, or a file has the name of another one.
      Exception: whatever the module itself raises.
    """
    if module.endswith(".py"):
        return _import_file(module, *folders)
    is_importable(module, *folders)
    return importlib.import_module(module)


def is_importable(module: str, *folders: Path) -> bool:
    """Whether Python finds a module, or one of these folders or the current one has it.

    The current folder is not on Python's path when an installed command runs. A folder
    is appended to the path, at the end, only if it has a module that is not found
    otherwise; so its files never replace those of installed packages.
    """
    package = module.partition(".")[0]
    if not package:
        return False
    if package in sys.modules or importlib.util.find_spec(package):
        return True
    for folder in (*folders, Path.cwd()):
        path = str(folder.resolve())
        if importlib.machinery.PathFinder.find_spec(package, [path]) is not None:
            add_folder(folder)
            return True
    return False


def add_folder(folder: Path) -> None:
    """Makes the modules of a folder importable, after those that Python finds."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)
        importlib.invalidate_caches()


def _import_file(name: str, *folders: Path) -> ModuleType:
    """Imports a file as the module with its name, so that a run can record it."""
    paths = [folder / name for folder in (Path(), *folders)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ImportError(f"there is no file {name}")
    module, path = path.stem, path.resolve()
    add_folder(path.parent)
    if module in sys.modules:
        found = vars(sys.modules[module]).get("__file__")
    else:
        # Dots would name a package.
        spec = None if "." in module else importlib.util.find_spec(module)
        found = spec.origin if spec else None
    if found is None or Path(found).resolve() != path:
        raise ImportError(
            f"{path} would be the module {module!r}, which is {found or 'no name'} "
            "here; rename the file"
        )
    return importlib.import_module(module)


def code_folder(module: str) -> str:
    """Folder from which an imported module of the user can be imported; "" if none.

    "" for modules of Python and of installed packages.
    """
    file = vars(sys.modules.get(module, ModuleType(module))).get("__file__")
    if not file:
        return ""
    path = Path(file).resolve()
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    if any(path.is_relative_to(folder) for folder in (*installed, _OWN_FOLDER)):
        return ""
    num_parents = module.count(".") + (path.name == "__init__.py")
    return str(path.parents[num_parents])


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
    is_ours = Path(at.filename).is_relative_to(_OWN_FOLDER)
    if is_ours and isinstance(error, ValueError):
        return str(error)
    return (
        f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
    )
