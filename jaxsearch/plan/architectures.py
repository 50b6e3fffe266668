"""The architecture of a config's model, without its weights."""

import dataclasses
from pathlib import Path

from jaxsearch.config import RunConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.table import PUBLISHED_SIZES
from jaxsearch.models.hub import PACKAGED, local_folder
from jaxsearch.run.network import origin_architecture, sized_architecture
from jaxsearch.run.policy import padded_vocab, read_architecture
from jaxsearch.run.warm_start import origin_of, weights_model

# Vocabulary of Qwen2.5, for random weights without a tokenizer.
_USUAL_VOCAB = 151_936


def planned_architecture(config: RunConfig) -> tuple[Architecture, str]:
    """The architecture of the config's model, and a description of its source.

    For a folder, its config.json is read. The sizes of known models are in a table; for
    other models, config.json is fetched from the Hub. Random weights have
    the sizes given in the config and the vocabulary of its tokenizer. A warm start has
    the architecture of its run.

    Raises:
      ValueError: if the model cannot be read.
    """
    name = config.model.path
    if not name:
        return _random_architecture(config)
    if origin_of(name) is not None:
        return _origin_architecture(config)
    if Path(name).is_dir():
        return read_architecture(name), f"{name}/config.json"
    if name in PUBLISHED_SIZES:
        return PUBLISHED_SIZES[name], "the table of published sizes (models/families)"
    try:
        folder = local_folder(name, "model", ("config.json",))
    except ValueError as error:
        raise ValueError(
            f"{error}; pass --model.path FOLDER: its config.json is enough"
        ) from None
    return read_architecture(
        str(folder)
    ), "the package" if name in PACKAGED else "the Hub"


def _origin_architecture(config: RunConfig) -> tuple[Architecture, str]:
    model = config.model
    weights = weights_model(model)
    if not weights.path:
        return origin_architecture(model), f"the run {model.path}"
    base = dataclasses.replace(model, path=weights.path)
    architecture, source = planned_architecture(dataclasses.replace(config, model=base))
    return architecture, f"{source}, which the run {model.path} began with"


def _random_architecture(config: RunConfig) -> tuple[Architecture, str]:
    model = config.model
    if model.tokenizer:
        tokenizer = Tokenizer.load(model.tokenizer)
        return (
            sized_architecture(model, padded_vocab(tokenizer)),
            f"the config, and the tokenizer {model.tokenizer}",
        )
    tokenizer = config.data.source(Path(config.out), config.seed).tokenizer
    if tokenizer is not None:
        vocab_size = padded_vocab(tokenizer)
        return sized_architecture(model, vocab_size), "the config and its dataset"
    return (
        sized_architecture(model, _USUAL_VOCAB),
        f"the config, with a vocabulary of {_USUAL_VOCAB:,} as Qwen2.5's "
        "(--model.tokenizer names another)",
    )
