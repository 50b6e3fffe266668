"""robots.txt: which pages of a server may be fetched (RFC 9309)."""

import dataclasses
import urllib.parse
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobotsRules:
    """The rules of a server for one robot.

    Attributes:
      rules: (pattern, whether it allows), where `*` stands for any text, and `$` at the
        end for the end of the path.
    """

    rules: Sequence[tuple[str, bool]] = ()

    def allows(self, path: str) -> bool:
        """Whether a path with its query may be fetched.

        The longest pattern that matches decides, of equal ones the one that allows.
        """
        path = _normal(path)
        matching = [
            (len(pattern), is_allowed)
            for pattern, is_allowed in self.rules
            if _matches(pattern, path)
        ]
        return max(matching, default=(0, True))[1]


ALLOW_ALL = RobotsRules()
ALLOW_NONE = RobotsRules(rules=(("/", False),))


def parse_robots(text: str, robot: str) -> RobotsRules:
    """The rules of a robots.txt for a robot, else those for all robots."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    robots: list[str] = []
    is_naming = False
    for line in text.lstrip("\ufeff").splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        if name == "user-agent":
            # Lines that name robots one after another share the rules that follow.
            robots = robots if is_naming else []
            named = value.partition("/")[0].strip().lower()
            robots.append(named)
            groups.setdefault(named, [])
            is_naming = True
        elif name in ("allow", "disallow"):
            is_naming = False
            if value:
                for named in robots:
                    groups[named].append((_normal(value), name == "allow"))
    return RobotsRules(rules=tuple(groups.get(robot, groups.get("*", ()))))


def _normal(path: str) -> str:
    """A path with its escapes written in one way."""
    return urllib.parse.quote(urllib.parse.unquote(path), safe="/*$?&=:@,;+!~'()%")


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches the beginning of a path, in linear steps.

    A regular expression could take exponential time for a hostile pattern.
    """
    is_whole = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if is_whole and rest:
        # The last piece must be at the very end, the others before it.
        *rest, last = rest
        if not path.endswith(last):
            return False
        path, is_whole = path[: len(path) - len(last)], False
        if at > len(path):
            return False
    for piece in rest:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return not is_whole or at == len(path)
