"""The request of a build: a check that its settings fit together, and its record."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsearch.search.bm25_index import BM25
from jaxsearch.search.build_folder import NO_ENCODER
from jaxsearch.search.build_settings import BuildSettings
from jaxsearch.search.encoder import Encoder, EncoderFactory, encoder_source
from jaxsearch.search.encoders import check_encoder_name
from jaxsearch.search.parts import WHOLE


def check_encoder_and_vectors(
    encoder: str | Encoder | EncoderFactory, settings: BuildSettings
) -> None:
    """Raises ValueError for settings that contradict each other."""
    if encoder == NO_ENCODER and settings.vectors is None:
        raise ValueError(
            "--encoder none needs --vectors FILE, the vectors of the passages"
        )
    if encoder == BM25:
        _check_words(settings)
    elif isinstance(encoder, str) and encoder != NO_ENCODER:
        check_encoder_name(encoder)
    options = settings.options.given
    if not isinstance(encoder, str) and (
        options or (settings.dims is not None and settings.vectors is None)
    ):
        raise ValueError(
            f"an encoder given by value takes no {', '.join(options) or 'dims'}: it "
            "has its own settings"
        )


def _check_words(settings: BuildSettings) -> None:
    """Raises ValueError for settings of vectors, which an index of words has not."""
    for option, is_given in (
        (", ".join(settings.options.given), settings.options.given),
        ("--dims", settings.dims is not None),
        ("--vectors", settings.vectors is not None),
        ("--part", settings.part != WHOLE),
    ):
        if is_given:
            raise ValueError(f"--encoder bm25 has no vectors, so no {option}")


def request(
    corpora: Sequence[str | Path],
    encoder: str | Encoder | EncoderFactory,
    settings: BuildSettings,
) -> dict[str, Any]:
    """The inputs and settings that affect the files of a build, as JSON values."""
    vectors = settings.vectors
    if isinstance(encoder, str):
        name = encoder
    elif isinstance(encoder, Encoder) and not isinstance(encoder, type):
        name = f"{encoder_source(encoder)} {encoder.fingerprint}"
    else:
        # A functools.partial has no name; its class has one.
        name = getattr(encoder, "__qualname__", type(encoder).__qualname__)
    return {
        "corpus": [_file_facts(path) for path in corpora],
        "encoder": name,
        "options": dataclasses.asdict(settings.options),
        "dims": settings.dims,
        "seed": settings.seed,
        "skip_bad_rows": settings.skip_bad_rows,
        "vectors": None
        if vectors is None
        else [*_file_facts(vectors.path), vectors.dims, vectors.dtype],
        "part": str(settings.part),
        "shard_rows": settings.shard_rows,
        "words": None if settings.words is None else settings.words.to_json(),
        "fusion": settings.fusion.to_json(),
    }


def _file_facts(path: str | Path) -> list[Any]:
    """Name, size and time of a file, which tell whether it is the same one."""
    found = Path(path)
    if not found.exists():  # on the Hub, or an error that reading it will explain
        return [str(path)]
    files = sorted(found.iterdir()) if found.is_dir() else [found]
    stats = [(file.name, file.stat()) for file in files]
    return [
        str(found.absolute()),
        *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats),
    ]
