"""Variants of the package's protocols with a few methods replaced."""

import dataclasses
from typing import Any

from jaxsearch.protocol import Protocol


def changed(protocol: Protocol, **members: Any) -> Protocol:
    """A protocol with some methods and properties replaced by functions and values."""
    own = {
        name: staticmethod(member) if callable(member) else member
        for name, member in members.items()
    }
    fields = {f.name: vars(protocol)[f.name] for f in dataclasses.fields(protocol)}
    return type("Changed", (type(protocol),), own)(**fields)
