"""Completion scripts for bash, zsh and fish."""

import shlex
from collections.abc import Iterable

from jaxsearch.commands.completion_words import Words

_BASH = """\
_jaxsearch() {
  local command=""
  if [ "$COMP_CWORD" -gt 1 ]; then command="${COMP_WORDS[1]}"; fi
  case "$command" in
    NESTED) if [ "$COMP_CWORD" -gt 2 ]; then command="$command ${COMP_WORDS[2]}"; fi ;;
  esac
  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
  # No word: readline completes files.
  COMPREPLY=()
  while IFS="" read -r word; do
    COMPREPLY+=("$word")
  done < <(compgen -W "$(_jaxsearch_words "$command" "$before" "$current")" \\
    -- "$current")
}
complete -o bashdefault -o default -F _jaxsearch jaxsearch
"""
_ZSH = """\
_jaxsearch() {
  local command="" current="${words[CURRENT]}" before="${words[CURRENT-1]}"
  if [ "$CURRENT" -gt 2 ]; then command="${words[2]}"; fi
  case "$command" in
    NESTED) if [ "$CURRENT" -gt 3 ]; then command="$command ${words[3]}"; fi ;;
  esac
  local -a found
  found=(${=$(_jaxsearch_words "$command" "$before" "$current")})
  compadd -a found
  case "$current" in
    -*) ;;
    *) _files ;;
  esac
}
compdef _jaxsearch jaxsearch
"""


def script(shell: str, words: Words) -> str:
    """The script for bash, zsh or fish."""
    if shell == "fish":
        return _fish(words)
    nested = sorted(
        {place.command.split()[0] for place in words.places if " " in place.command}
    )
    frame = {"bash": _BASH, "zsh": _ZSH}[shell].replace("NESTED", " | ".join(nested))
    return "\n".join([*_words_function(words), frame])


def _words_function(words: Words) -> list[str]:
    """A function of both shells that prints the words of a place."""
    lines = [
        "# Words after COMMAND, given the word BEFORE and the CURRENT one.",
        "_jaxsearch_words() {",
        '  case "$1 $2" in',
    ]
    for place in words.places:
        for option, values in place.values.items():
            pattern = f"{place.command} {option}".strip()
            lines += _printing(pattern, values, returns=True)
    # The value of a field.
    lines.append("    *\\ --*.*) return ;;")
    lines += ["  esac", '  case "$1,$3" in']
    for place in words.places:
        options = [*place.options]
        lines += _printing(f"{place.command},-", options, prefix=True)
        lines += _printing(f"{place.command},", place.words, prefix=True)
    lines += ["  esac", '  case "$1,$3" in']
    with_fields = [
        f"{place.command},--" for place in words.places if place.takes_fields
    ]
    patterns = "|".join(f"{shlex.quote(text)}*" for text in with_fields)
    lines += [f"    {patterns})", f"      echo {_quoted(words.fields)} ;;"]
    return [*lines, "  esac", "}", ""]


def _printing(
    pattern: str, words: Iterable[str], *, prefix: bool = False, returns: bool = False
) -> list[str]:
    """A branch of `case` that prints words, if there are some, or only returns."""
    steps = [f"echo {_quoted(words)}"] * bool(words) + ["return"] * returns
    matched = shlex.quote(pattern) + "*" * prefix
    return [f"    {matched}) {'; '.join(steps)} ;;"] if steps else []


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _fish(words: Words) -> str:
    lines = []
    for place in words.places:
        names = place.command.split()
        when = "__fish_use_subcommand"
        if names:
            tests = [f"__fish_seen_subcommand_from {name}" for name in names]
            when = "; and ".join(tests)
        condition = f"-n {shlex.quote(when)}"
        for word in place.words:
            summary = words.summaries.get(f"{place.command} {word}".strip(), "")
            about = f" -d {shlex.quote(summary)}" if summary else ""
            lines.append(
                f"complete -c jaxsearch {condition} -a {shlex.quote(word)}{about}"
            )
        options = dict(place.options)
        if place.takes_fields:
            options |= dict.fromkeys(words.fields, "a field of the config")
        for option, about in options.items():
            values = place.values.get(option, ())
            takes_value = option in place.values or option in words.fields
            given = f" -x -a {_quoted(values)}" if values else " -r" * takes_value
            lines.append(
                f"complete -c jaxsearch {condition} {_fish_option(option)}"
                f"{given} -d {shlex.quote(about)}"
            )
    return "\n".join(lines) + "\n"


def _fish_option(option: str) -> str:
    return f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
