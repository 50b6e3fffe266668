"""Builds the index of a corpus file and saves it to a folder."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoder_options import EncoderOptions, Report, no_report
from jaxsearch.search.encoders import NO_OPTIONS, encoder_given, encoder_named
from jaxsearch.search.index_check import describe_index
from jaxsearch.search.index_folder import check_is_free
from jaxsearch.search.indexes import build_index
from jaxsearch.search.passages import read_passages

STAGES = (
    "reading passages",
    "preparing the encoder",
    "encoding and indexing",
    "saving",
)


def build_index_folder(
    *,
    corpus: str | Path,
    encoder: str | Encoder | EncoderFactory,
    out: str | Path,
    options: EncoderOptions = NO_OPTIONS,
    dims: int | None = None,
    skip_bad_rows: bool = False,
    seed: int = 0,
    num_threads: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    report: Report = no_report,
) -> dict[str, Any]:
    """Builds the index of a corpus, saves it, and returns its description.

    Args:
      corpus: any file that `read_passages` reads.
      encoder: name of the encoder, as in `encoder_named`; or an encoder object, as in
        `encoder_given`, to which the options do not apply.
      out: folder to write; it must be empty or not exist.
      options: settings of a BERT encoder.
      dims: width of TF-IDF vectors.
      skip_bad_rows: whether to go on without malformed rows of the corpus.
      seed: seed of the TF-IDF projection.
      num_threads: threads for training the index; None uses half of the host's cores.
      on_stage: called with each of STAGES when it begins.
      report: called with the progress of encoding.

    Raises:
      ValueError: for a corpus or an encoder that cannot be read, or a folder that is
        not empty.
    """
    started, out = time.perf_counter(), Path(out)
    check_is_free(out)
    on_stage(STAGES[0])
    passages = read_passages(corpus, skip_bad_rows=skip_bad_rows)
    on_stage(STAGES[1])
    if isinstance(encoder, str):
        fitted = encoder_named(
            encoder, passages, options=options, dims=dims, seed=seed, report=report
        )
    elif options.given or dims is not None:
        raise ValueError(
            f"an encoder given by value takes no {', '.join(options.given) or 'dims'}: "
            "it has its own settings"
        )
    else:
        fitted = encoder_given(encoder, passages)
    on_stage(STAGES[2])
    index = build_index(passages, fitted, num_threads=num_threads)
    on_stage(STAGES[3])
    index.save(out)
    return {
        **describe_index(index),
        "out": str(out),
        "bytes": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        "seconds": time.perf_counter() - started,
    }
