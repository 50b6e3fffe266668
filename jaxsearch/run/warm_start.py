"""Warm start: a run that begins from the policy of another run.

`model.path` may name a run's folder, or one of its checkpoints: RUN, RUN/best,
RUN/best/STEP, RUN/checkpoints or RUN/checkpoints/STEP. The new run takes the
architecture, the tokenizer and the parameters in full precision, not the optimizer.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from jaxsearch.config import ModelConfig, RunConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.json_files import read_json_object
from jaxsearch.run.best_checkpoint import BEST_FOLDER
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER
from jaxsearch.run.checkpoint_choice import CheckpointChoice, choose_checkpoint
from jaxsearch.run.folder import read_run_config

# Names of `choose_checkpoint` by the folder in a run's folder.
_WHICH = {BEST_FOLDER: "best", CHECKPOINT_FOLDER: "last"}
# Fields of a model that belong to the weights or the tokenizer.
_INHERITED = (
    *("path", "width", "mlp_width", "num_layers", "num_heads", "num_kv_heads"),
    *("head_width", "rope_theta", "has_qkv_bias", "has_qk_norm", "has_tied_head"),
)


class Origin(NamedTuple):
    """The run that another one begins from.

    Attributes:
      config: its config, with its folder as `out`.
      which: its checkpoint: best, last, a step, or "" for the best if there is one.
    """

    config: RunConfig
    which: str

    def checkpoint(self) -> CheckpointChoice:
        """The checkpoint.

        Raises:
          ValueError: if the run has no such checkpoint.
        """
        return choose_checkpoint(self.config, self.which)


def origin_of(path: str) -> Origin | None:
    """The run that a model's path names; None if it names something else.

    Raises:
      ValueError: if the run's record is damaged, or names code that is not there.
    """
    folder, which = Path(path), ""
    if folder.name.isdecimal() and folder.parent.name in _WHICH:
        folder, which = folder.parent.parent, folder.name
    elif folder.name in _WHICH:
        folder, which = folder.parent, _WHICH[folder.name]
    if not path or not _is_run(folder):
        return None
    return Origin(read_run_config(folder), which)


def weights_model(model: ModelConfig) -> ModelConfig:
    """The model config with the sizes and the Hugging Face folder of its weights.

    Without a warm start, this is the config itself.
    """
    origin = origin_of(model.path)
    if origin is None:
        return model
    theirs = weights_model(origin.config.model)
    inherited = {name: vars(theirs)[name] for name in _INHERITED}
    return dataclasses.replace(
        model,
        **inherited,
        tokenizer=model.tokenizer or theirs.tokenizer,
        end_token=model.end_token or theirs.end_token,
    )


def origin_tokenizer(model: ModelConfig) -> Tokenizer | None:
    """The tokenizer that the run in a model's path made of its dataset.

    None if there is no such run, or its tokenizer is in a folder.
    """
    origin = origin_of(model.path)
    if origin is None:
        return None
    config = origin.config
    if config.model.path:
        return origin_tokenizer(config.model)
    if config.model.tokenizer:
        return None
    return config.data.source(Path(config.out), config.seed).tokenizer


def _is_run(folder: Path) -> bool:
    """Whether a folder was written by `jaxsearch train`, perhaps without checkpoint."""
    path = folder / "config.json"
    try:
        return path.is_file() and "identity" in read_json_object(path)
    except ValueError:
        return False
