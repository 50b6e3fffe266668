"""Reads BERT encoders from model folders and from folders written by `save`."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxsearch.json_types import typed
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.bert_files import (
    check_layers,
    read_bert_architecture,
    read_bert_params,
)
from jaxsearch.models.hub import TOKENIZER, WEIGHTS, local_folder
from jaxsearch.search.bert_encoder import (
    BertEncoder,
    bert_fingerprint,
    bert_network,
)
from jaxsearch.search.encoder import read_encoder_json
from jaxsearch.search.encoder_options import (
    EncoderOptions,
    QueryDevice,
    Report,
    no_report,
)
from jaxsearch.search.encoder_settings import EncoderSettings, read_settings
from jaxsearch.search.encoder_tokenizer import parsed_tokenizer, read_tokenizer


def read_bert_encoder(
    name: str,
    options: EncoderOptions,
    *,
    query_device: QueryDevice = "host",
    report: Report = no_report,
) -> BertEncoder:
    """Reads a model's folder, or a Hub id through its cache.

    Raises:
      ValueError: if a file is missing or unsupported, or if a setting is given neither
        by the model nor by an option; the message names the file or the option.
    """
    folder = local_folder(name, "encoder", WEIGHTS + TOKENIZER)
    architecture, tokenizer, settings = read_all_but_weights(folder, options)
    check_layers(folder, architecture.num_layers)
    return BertEncoder(
        architecture=architecture,
        params=read_bert_params(folder, bert_network(architecture, settings).shapes),
        tokenizer=tokenizer,
        settings=settings,
        query_device=query_device,
        report=report,
    )


def read_all_but_weights(
    folder: Path, options: EncoderOptions
) -> tuple[BertArchitecture, Any, EncoderSettings]:
    """Reads the small files of a model's folder.

    Returns:
      The architecture, the `tokenizers.Tokenizer` and the settings.

    Raises:
      ValueError: as `read_bert_encoder`.
    """
    architecture = read_bert_architecture(folder)
    tokenizer, tokenizer_len = read_tokenizer(folder, architecture.vocab_size)
    settings = read_settings(
        folder,
        options,
        max_positions=architecture.max_positions,
        tokenizer_len=tokenizer_len,
    )
    return architecture, tokenizer, settings


def load_bert_encoder(
    folder: Path, *, query_device: QueryDevice = "host", report: Report = no_report
) -> BertEncoder:
    """Reads an encoder written by `BertEncoder.save`; queries are equal bit for bit.

    Raises:
      ValueError: if the folder is damaged or was changed after it was saved.
    """
    record = read_encoder_json(folder)
    names = [field.name for field in dataclasses.fields(EncoderSettings)]
    try:
        given = {name: record[name] for name in names}
        settings = typed(given, EncoderSettings, "encoder.json")
        expected = record["fingerprint"]
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        architecture = read_bert_architecture(folder)
        check_layers(folder, architecture.num_layers)
        shapes = bert_network(architecture, settings).shapes
        params = read_bert_params(folder, shapes)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder} does not hold a readable bert encoder ({error}); rebuild "
            "the index"
        ) from error
    found = bert_fingerprint(params, text, settings)
    if found != expected:
        raise ValueError(
            f"{folder} was changed after it was saved: expected encoder "
            f"fingerprint {expected!s:.40}, found {found}; rebuild the index"
        )
    return BertEncoder(
        architecture=architecture,
        params=params,
        tokenizer=parsed_tokenizer(text, folder),
        settings=settings,
        query_device=query_device,
        report=report,
    )
