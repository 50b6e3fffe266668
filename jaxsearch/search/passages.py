"""Passages, and the files they come from."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passage:
    """One retrievable text. The first line of `contents` is its title."""

    id: str
    contents: str

    @property
    def title(self) -> str:
        return self.contents.partition("\n")[0].strip().strip('"')

    @property
    def text(self) -> str:
        return self.contents.partition("\n")[2]
