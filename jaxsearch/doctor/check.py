"""One finding of `jaxsearch doctor`."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A finding, and the command that fixes it.

    Attributes:
      name: what was checked, in a word or two.
      status: ok; note for what only some uses need; problem for what every use needs.
      found: what was found.
      mend: the command that fixes it, or else what to do; "" if nothing is to be done.
    """

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    mend: str = ""

    def __post_init__(self):
        if (self.status == "ok") != (not self.mend):
            raise ValueError(
                f"check {self.name!r}: only what is not ok is to be mended"
            )
