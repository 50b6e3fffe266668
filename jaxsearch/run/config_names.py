"""Config files by name: those of the package can be used from any folder."""

import difflib
import re
from pathlib import Path


def config_folder() -> Path:
    """The folder configs/: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Names of the package's configs."""
    return sorted(path.stem for path in config_folder().glob("*.py"))


def find_config(config: str) -> Path:
    """The file of a config.

    Args:
      config: path of a Python file, or the name of one of the package's configs, such
        as quickstart. A file with that very name comes first.

    Raises:
      ValueError: if there is neither; the error lists names that are near or known.
    """
    file = Path(config)
    if file.is_file():
        return file
    if re.fullmatch(r"[\w-]+", config) and not file.is_dir():
        names = config_names()
        if config in names:
            return config_folder() / f"{config}.py"
        near = difflib.get_close_matches(config, names)
        hint = f"near it: {', '.join(near)}; " if near else ""
        raise ValueError(
            f"config {config!r} is unknown; {hint}known: {', '.join(names)}; a file of "
            "your own is given with its ending, such as my_run.py"
        )
    if file.is_dir():
        raise ValueError(
            f"{config} is a folder; expected a config: a Python file, or one of "
            f"{', '.join(config_names())}"
        )
    near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*")])
    hint = f"; near it: {', '.join(near)}" if near else ""
    if not near and file.stem in config_names():
        hint = f"; the package has this config under its name: {file.stem}"
    raise ValueError(f"config file {config} does not exist{hint}")
