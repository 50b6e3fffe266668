"""Commands that a user can paste into the shell that this process was started from."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_INDENT = "    "


def program() -> list[str]:
    """The words that start `jaxsearch` in the user's shell.

    `jaxsearch` if the shell finds this program under its name, otherwise its path,
    relative if it is below the working directory.
    """
    script = Path(sys.argv[0]).absolute()
    if script.name != "jaxsearch":
        return [_typed(Path(sys.executable)), "-m", "jaxsearch"]
    found = shutil.which("jaxsearch")
    if found is not None and script.exists() and script.samefile(found):
        return ["jaxsearch"]
    return [_typed(script)]


def _typed(path: Path) -> str:
    """A program's path as a shell finds it; symbolic links are kept."""
    # Not resolved: the python of a virtual environment is a link to another one.
    if path.is_relative_to(Path.cwd()):
        return os.path.join(".", path.relative_to(Path.cwd()))
    return str(path)


def command(*words: str, width: int) -> list[str]:
    """The lines of a `jaxsearch` command, joined by backslashes where they break.

    Args:
      words: the words after `jaxsearch`, not quoted.
      width: width of the lines; a longer word has a line for itself.
    """
    lines = [""]
    for part in _parts([*program(), *words]):
        if lines[-1].strip() and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(_INDENT + part)
        else:
            lines[-1] += " " * bool(lines[-1]) + part
    return lines


def _parts(words: Sequence[str]) -> list[str]:
    """Quoted words; an option and its value stay together."""
    parts: list[str] = []
    for number, word in enumerate(words):
        is_value = number > 0 and words[number - 1].startswith("--")
        if is_value and not word.startswith("--"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    return parts
