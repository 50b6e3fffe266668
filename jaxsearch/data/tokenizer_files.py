"""The files of a tokenizer's folder."""

import contextlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from jaxsearch.json_files import read_json_object

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
# Files that may list end tokens, in the order of transformers: the first that exists.
_END_FILES = ("generation_config.json", "config.json")
# Any text with letters, digits and another byte than ASCII.
_PROBE = "Who is 12 \u00e9?"
# Parts of a config.json that describe the language model of a larger one.
_TEXT_CONFIGS = ("decoder", "generator", "text_config")


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if the file does not exist.

    Raises:
      ValueError: if the file is not JSON, or not an object.
    """
    return read_json_object(path) if path.exists() else {}


@contextlib.contextmanager
def _silent_transformers() -> Iterator[None]:
    """Without warnings about formats that transformers tries before the right one."""
    from transformers import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def read_backend(folder: Path) -> Any:
    """A `transformers` fast tokenizer that encodes as the folder's tokenizer.json does.

    AutoTokenizer chooses a class by the model type, and some classes replace the
    normaliser and the pre-tokenizer of the file by their own (a qwen2 folder becomes a
    Qwen2Tokenizer). It is used only where there is no tokenizer.json.

    Raises:
      ValueError: if the folder has no tokenizer that can be read.
    """
    read_json(folder / TOKENIZER_CONFIG_FILE)
    has_file = (folder / TOKENIZER_FILE).exists()
    # AutoTokenizer imports PyTorch if it is installed, which takes seconds.
    if has_file:
        from transformers import PreTrainedTokenizerFast as loader
    else:
        from transformers import AutoTokenizer as loader
    try:
        with _silent_transformers():
            backend = loader.from_pretrained(folder, trust_remote_code=False)
            # Some malformed files are read, and fail at every text.
            backend.encode(_PROBE)
    except BaseException as error:
        # tokenizers raises Exception for a malformed file; a panic of its Rust code is
        # a BaseException, of a class that cannot be imported.
        is_panic = type(error).__name__ == "PanicException"
        if not (isinstance(error, Exception) or is_panic):
            raise
        where = f": {TOKENIZER_FILE}" if has_file else ""
        reason = f"{' '.join(str(error).split()):.200}" or type(error).__name__
        raise ValueError(
            f"cannot read a tokenizer from {folder}{where}: {reason}"
        ) from None
    if not backend.is_fast:
        raise ValueError(f"tokenizer {folder} has no fast form ({TOKENIZER_FILE})")
    return backend


def read_end_ids(folder: Path, known_ids: Container[int]) -> tuple[int, ...]:
    """End tokens that a model's folder lists in addition to its tokenizer's.

    As in transformers, they are `eos_token_id` of generation_config.json; without that
    file, `eos_token_id` of config.json. (Unlike transformers, a model type's default is
    not used, such as Llama's id 2 where config.json says nothing.)

    Args:
      known_ids: the ids of the tokenizer.

    Raises:
      ValueError: if the file is malformed, or lists something other than known ids.
    """
    path = next((folder / n for n in _END_FILES if (folder / n).exists()), None)
    if path is None:
        return ()
    config = read_json(path)
    found = config.get("eos_token_id")
    if found is None and path.name == "config.json":
        parts = (config.get(name) for name in _TEXT_CONFIGS)
        texts = (part for part in parts if isinstance(part, dict))
        found = next((text.get("eos_token_id") for text in texts), None)
    ids = found if isinstance(found, list) else [] if found is None else [found]
    # A boolean is an int in Python, but no id.
    if not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(
            f"{path}: eos_token_id must be an id (0, 1, ...) or a list of ids, got "
            f"{found!r:.80}; correct the file, or name the token with model.end_token"
        )
    if unknown := [i for i in ids if i not in known_ids]:
        raise ValueError(
            f"{path}: eos_token_id lists {unknown[0]}, but the tokenizer has no such "
            "id; correct the file, or name the token with model.end_token"
        )
    return tuple(ids)
