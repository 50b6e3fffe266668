"""Choice of an encoder: by name, by value, or from a saved folder."""

from collections.abc import Sequence
from pathlib import Path

from jaxsearch.search.encoder import Encoder, EncoderFactory, read_encoder_json
from jaxsearch.search.encoder_options import (
    EncoderOptions,
    QueryDevice,
    Report,
    no_report,
)
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import DEFAULT_DIMS, TfidfEncoder

NO_OPTIONS = EncoderOptions()
BERT = "bert"  # BertEncoder.name; its module imports jax


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
    """Returns the encoder that a command or a config names.

    Args:
      name: "tfidf", fitted to the passages; a folder with an encoder.json, used as it
        was saved; or the folder or Hub id of a BERT encoder.
      options: settings of a BERT encoder.
      dims: width of TF-IDF vectors; None means DEFAULT_DIMS.
      seed: seed of the TF-IDF projection.
      query_device: where a BERT encoder computes queries.
      report: called by a BERT encoder with its progress on the passages.

    Raises:
      ValueError: if the encoder cannot be read, or an option has no effect on it.
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
    check_encoder_name(name)
    # Imported here because it imports jax, which TF-IDF does not need.
    from jaxsearch.search.bert_encoder_folder import read_bert_encoder

    return read_bert_encoder(name, options, query_device=query_device, report=report)


def check_encoder_name(name: str) -> None:
    """Checks the name of an encoder.

    Raises:
      ValueError: if it is neither tfidf, nor a folder, nor of the form of a Hub id.
    """
    if name == TfidfEncoder.name:
        return
    if not Path(name).is_dir() and name.count("/") != 1:
        raise ValueError(
            f"unknown encoder {name!r:.80}: expected tfidf, or a folder or Hub id "
            "(owner/name) of a BERT encoder"
        )


def check_encoder_folder(name: str) -> None:
    """Checks the name of an encoder, and its folder's files except for weights.

    A Hub id is not fetched.

    Raises:
      ValueError: if `encoder_named` would refuse the name or one of these files.
    """
    check_encoder_name(name)
    folder = Path(name)
    if name == TfidfEncoder.name or not folder.is_dir():
        return
    if (folder / "encoder.json").is_file():
        saved_encoder_name(folder)
        return
    # Imported here because it imports jax, which TF-IDF does not need.
    from jaxsearch.search.bert_encoder_folder import read_all_but_weights

    read_all_but_weights(folder, NO_OPTIONS)


def encoder_given(
    given: Encoder | EncoderFactory, passages: Sequence[Passage]
) -> Encoder:
    """Returns an encoder given by value, or made by a factory from the passages.

    Raises:
      ValueError: if the result lacks a member of `Encoder`.
    """
    # A class has the members of its instances, so it passes for one of them here.
    is_encoder = isinstance(given, Encoder) and not isinstance(given, type)
    encoder = given if is_encoder else given(passages)
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"{given!r:.80} returned {type(encoder).__name__}, expected an encoder: an "
            "object with name, dims, fingerprint, encode_queries and encode_passages"
        )
    return encoder


def load_encoder(
    folder: Path, *, query_device: QueryDevice = "host", report: Report = no_report
) -> Encoder:
    """Reads a saved encoder of this package.

    The folder is data: a class that it names is never imported from it.

    Args:
      query_device: where a BERT encoder computes queries.
      report: called by a BERT encoder with its progress on the passages.

    Raises:
      ValueError: if the folder is damaged, or was written for an encoder that has to
        be given by value.
    """
    name = saved_encoder_name(folder)
    if name == TfidfEncoder.name:
        return TfidfEncoder.load(folder)
    # Imported here because it imports jax, which TF-IDF does not need.
    from jaxsearch.search.bert_encoder_folder import load_bert_encoder

    return load_bert_encoder(folder, query_device=query_device, report=report)


def saved_encoder_name(folder: Path) -> str:
    """The name of the saved encoder in a folder: tfidf or bert.

    Raises:
      ValueError: if it is another one, or has to be given by value.
    """
    record = read_encoder_json(folder)
    name, source = record.get("name"), record.get("source")
    if source is not None:
        raise ValueError(
            f"{folder} was built with the encoder {source}, which is not part of "
            "jaxsearch and cannot be loaded from a folder: give the encoder by value, "
            "with RetrievalConfig(encoder=...), load_index(..., encoder=...) or "
            "--encoder package.module:NAME"
        )
    if name not in (TfidfEncoder.name, BERT):
        raise ValueError(
            f"{folder}/encoder.json names the encoder {name!r:.80}, expected "
            f"{TfidfEncoder.name!r} or {BERT!r}; give another encoder by value"
        )
    return name
