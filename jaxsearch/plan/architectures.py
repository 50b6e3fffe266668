"""The sizes of the model that a config names, without its weights."""

from pathlib import Path

from jaxsearch.config import RunConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.table import PUBLISHED_SIZES
from jaxsearch.models.hub import local_folder
from jaxsearch.run.network import sized_architecture
from jaxsearch.run.policy import padded_vocab, read_architecture

# Of Qwen2.5's embedding: what random weights get where no tokenizer is named.
_USUAL_VOCAB = 151_936


def planned_architecture(config: RunConfig) -> tuple[Architecture, str]:
    """The architecture, and where it was read.

    A folder's own config.json counts; a model whose sizes are known needs no network;
    of any other the Hub is asked for that one file. Random weights have the config's
    sizes, and the vocabulary of its tokenizer.

    Errors: ValueError for a model that cannot be read.
    """
    name = config.model.path
    if not name:
        return _of_random_weights(config)
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
    return read_architecture(str(folder)), "the Hub"


def _of_random_weights(config: RunConfig) -> tuple[Architecture, str]:
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
        return sized_architecture(model, vocab_size), "the config and its material"
    return (
        sized_architecture(model, _USUAL_VOCAB),
        f"the config, with a vocabulary of {_USUAL_VOCAB:,} as Qwen2.5's "
        "(--model.tokenizer names another)",
    )
