"""The encoder that a command or a config names."""

from collections.abc import Sequence
from pathlib import Path

from jaxsearch.search.encoder import (
    DEFAULT_DIMS,
    Encoder,
    TfidfEncoder,
    load_encoder,
)
from jaxsearch.search.encoder_options import (
    EncoderOptions,
    QueryDevice,
    Report,
    no_report,
)
from jaxsearch.search.passages import Passage

NO_OPTIONS = EncoderOptions()


def encoder_named(
    name: str,
    passages: Sequence[Passage],
    *,
    options: EncoderOptions = NO_OPTIONS,
    dims: int | None = None,
    seed: int = 0,
    query_device: QueryDevice = "host",
    report: Report = no_report,
) -> Encoder:
    """An encoder for an index of these passages.

    Args:
      name: "tfidf", fitted on the passages; a folder with an encoder.json, taken as
        it is; or the folder or Hub id of a BERT encoder.
      options: for the last of these.
      dims: of the vectors, for the first; None: DEFAULT_DIMS.
      seed: likewise, of the projection.
      report: told how far a neural encoder is.

    Errors: ValueError for what cannot be read, or an option without effect.
    """
    is_tfidf = name == TfidfEncoder.name
    is_saved = (Path(name) / "encoder.json").is_file()
    if options.given and (is_tfidf or is_saved):
        reason = "it has none" if is_tfidf else "it was saved with its own"
        raise ValueError(
            f"encoder {name} takes no {', '.join(options.given)}: {reason}"
        )
    if dims is not None and not is_tfidf:
        raise ValueError(f"encoder {name} takes no dims: it has its own")
    if is_tfidf:
        dims = DEFAULT_DIMS if dims is None else dims
        return TfidfEncoder.fit(passages, dims=dims, seed=seed)
    if is_saved:
        return load_encoder(Path(name), query_device=query_device, report=report)
    if not Path(name).is_dir() and name.count("/") != 1:
        raise ValueError(
            f"unknown encoder {name!r}: expected tfidf, or a folder or Hub id "
            "(owner/name) of a BERT encoder"
        )
    # TF-IDF must not wait for jax.
    from jaxsearch.search.neural_encoder import NeuralEncoder

    return NeuralEncoder.read(name, options, query_device=query_device, report=report)
