"""The settings of a build, and the callbacks that report its progress."""

import dataclasses
from collections.abc import Callable

from jaxsearch.bad_rows import Note, print_note
from jaxsearch.search.bm25_postings import Bm25Settings
from jaxsearch.search.encoder_options import EncoderOptions, Report, no_report
from jaxsearch.search.encoders import NO_OPTIONS
from jaxsearch.search.fusion import Fusion
from jaxsearch.search.parts import WHOLE, Part
from jaxsearch.search.vector_files import VectorFile

RESCORES = ("mapped", "memory")
STAGES = (
    "reading passages",
    "preparing the encoder",
    "encoding",
    "indexing",
    "saving",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How an index is built; the defaults are those of the command.

    Attributes:
      options: settings of a BERT encoder.
      dims: width of TF-IDF vectors.
      seed: seed of the TF-IDF projection.
      skip_bad_rows: whether to continue without malformed rows of a corpus.
      vectors: vectors of the passages, which are not encoded then.
      part: the part of the passages to encode.
      shard_rows: passages of a shard of vectors; None chooses by the size.
      rescore: where the vectors of candidates lie in a search, one of RESCORES.
      max_memory: limit of the build in bytes of anonymous memory.
      num_threads: threads for training a tree; None uses half of the host's cores.
      words: settings of BM25, for a hybrid or an index of words alone; None for an
        index of vectors alone.
      fusion: how the rankings of a hybrid become one.
    """

    options: EncoderOptions = NO_OPTIONS
    dims: int | None = None
    seed: int = 0
    skip_bad_rows: bool = False
    vectors: VectorFile | None = None
    part: Part = WHOLE
    shard_rows: int | None = None
    rescore: str = "mapped"
    max_memory: int | None = None
    num_threads: int | None = None
    words: Bm25Settings | None = None
    fusion: Fusion = Fusion()

    def __post_init__(self):
        if self.rescore not in RESCORES:
            raise ValueError(
                f"--rescore must be one of {', '.join(RESCORES)}, got {self.rescore!r}"
            )
        if self.shard_rows is not None and self.shard_rows < 1:
            raise ValueError(f"--shard-rows must be >= 1, got {self.shard_rows}")
        if self.max_memory is not None and self.max_memory < 1:
            raise ValueError(f"--max-memory must be positive, got {self.max_memory}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Receives how far a build is.

    Attributes:
      on_stage: called with each of STAGES when it begins.
      report: called with the numbers of passages encoded and of all.
      note: receives lines for the user.
    """

    on_stage: Callable[[str], None] = lambda stage: None
    report: Report = no_report
    note: Note = print_note


DEFAULTS = BuildSettings()
QUIET = Progress()
