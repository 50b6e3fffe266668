"""Import of modules that a user names as `module:NAME`."""

import importlib
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType


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
