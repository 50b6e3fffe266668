"""A retriever with what a server says about it."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.index import Retriever
from jaxsearch.search.indexes import load_index
from jaxsearch.search.manifest import Manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedIndex:
    """A retriever and its description, the answer to `GET /index`.

    Attributes:
      retriever: answers batches of queries; the answer to a query must not depend on
        its batch.
      num_passages: size of the corpus; None if it is not known.
      fingerprints: of what decides the answers, such as corpus and encoder.
      settings: anything else that a user may want to know.
      num_workers: calls of the retriever that may run at once. One is best for an
        index in memory, whose calls use several cores; a retriever that waits for
        others can have more.
      max_batch: queries of one call, at most the server's own limit; None for that. One
        is best for a retriever that waits for each of them.
    """

    retriever: Retriever
    num_passages: int | None = None
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_workers: int = 1
    max_batch: int | None = None

    def __post_init__(self):
        if self.num_workers < 1:
            raise ValueError(f"num_workers must be >= 1, got {self.num_workers}")
        if self.max_batch is not None and self.max_batch < 1:
            raise ValueError(f"max_batch must be >= 1, got {self.max_batch}")

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, encoder: Encoder | EncoderFactory | None = None
    ) -> "ServedIndex":
        """Loads an index folder.

        Args:
          folder: made by `jaxsearch index build`, or `indexes/train` of a run.
          encoder: the custom encoder that the index was built with, if any.

        Raises:
          ValueError: if the folder is no index, is damaged, or needs an encoder.
        """
        manifest = Manifest.read(Path(folder))
        return cls(
            # A server does not decode, so searches can use all cores.
            retriever=load_index(folder, encoder=encoder, num_threads=os.cpu_count()),
            num_passages=manifest.num_passages,
            fingerprints={
                "corpus": manifest.corpus_fingerprint,
                "encoder": manifest.encoder_fingerprint,
            },
            settings={
                "kind": manifest.kind,
                "encoder": manifest.encoder_name,
                "dims": manifest.dims,
                "scorer": manifest.scorer,
                "built_with": manifest.jaxsearch_version,
            },
        )
