"""Parts of a build that processes encode on their own, and the shards of each part."""

import dataclasses
import re

PART = "part"  # kind of a folder that is one part of an index
# A stopped build loses less than one shard. Each file that is open counts, so there are
# not many more than _MAX_SHARDS.
_MIN_ROWS = 2048
_MAX_SHARDS = 256
MAX_PARTS = 1024


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the parts of a corpus.

    Attributes:
      number: which one, from 1.
      of: how many there are.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self):
        if not 1 <= self.number <= self.of <= MAX_PARTS:
            raise ValueError(
                f"a part must be written like 3/8, with at most {MAX_PARTS} parts, got "
                f"{self}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part written as "3/8".

        Raises:
          ValueError: for any other text.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found:
            raise ValueError(f"--part must be written like 3/8, got {text!r}")
        return cls(int(found[1]), int(found[2]))


WHOLE = Part()


def shard_ranges(num: int, shard_rows: int | None, part: Part) -> dict[int, range]:
    """Positions of the passages of each shard of a part, by the shard's number.

    The shards of a corpus are the same in one part and in several.

    Args:
      num: number of passages.
      shard_rows: passages of a shard; None chooses by the number of passages.
      part: the part.

    Raises:
      ValueError: if the part would be empty.
    """
    if shard_rows is None:
        per_shard = -(-num // _MAX_SHARDS)
        shard_rows = max(1, -(-per_shard // _MIN_ROWS)) * _MIN_ROWS
    num_shards = -(-num // shard_rows)
    if part.of > num_shards:
        raise ValueError(
            f"{num:,} passages have {num_shards} shards of {shard_rows:,}, which is "
            f"too few for {part.of} parts; give fewer parts or a lower --shard-rows"
        )
    first = num_shards * (part.number - 1) // part.of
    last = num_shards * part.number // part.of
    return {
        number: range(number * shard_rows, min((number + 1) * shard_rows, num))
        for number in range(first, last)
    }
