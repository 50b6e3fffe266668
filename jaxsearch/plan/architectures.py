"""The sizes of the model that a config names, without its weights or tokenizer."""

from pathlib import Path

from jaxsearch.config import ModelConfig
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hub import local_folder
from jaxsearch.models.known import ARCHITECTURES
from jaxsearch.policy import read_architecture


def planned_architecture(model: ModelConfig) -> tuple[Architecture, str]:
    """The architecture, and where it was read.

    A folder's own config.json counts; a model whose sizes are known needs no network;
    of any other the Hub is asked for that one file.

    Errors: ValueError for random weights, whose vocabulary only a tokenizer knows, and
    for a model that cannot be read.
    """
    name = model.path
    if not name:
        raise ValueError(
            "plan needs a model with a config.json: pass --model.path FOLDER, or a "
            f"Hub id such as {next(iter(ARCHITECTURES))}"
        )
    if Path(name).is_dir():
        return read_architecture(name), f"{name}/config.json"
    if name in ARCHITECTURES:
        return ARCHITECTURES[name], "the table of published sizes (models/known.py)"
    try:
        folder = local_folder(name, "model", ("config.json",))
    except ValueError as error:
        raise ValueError(
            f"{error}; pass --model.path FOLDER: its config.json is enough"
        ) from None
    return read_architecture(str(folder)), "the Hub"
