"""The tokenizer of a BERT encoder's folder."""

from pathlib import Path
from typing import Any


def read_tokenizer(folder: Path, vocab_size: int) -> tuple[Any, int]:
    """Reads a tokenizer that adds [CLS] and [SEP] to each text.

    Args:
      folder: the model's folder.
      vocab_size: rows of the network's embedding.

    Returns:
      The `tokenizers.Tokenizer`, and the longest row that it allows, in tokens.

    Raises:
      ValueError: if the folder has no fast tokenizer, or one that does not fit the
        network.
    """
    from transformers import AutoTokenizer

    # Without either file, transformers makes a tokenizer with an empty vocabulary.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise ValueError(
            f"encoder folder {folder} has neither tokenizer.json nor vocab.txt"
        )
    try:
        fast = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises Exception for a malformed file
        raise _unreadable(folder, error) from None
    if not fast.is_fast:
        raise ValueError(f"tokenizer {folder} has no fast form (tokenizer.json)")
    tokenizer = fast.backend_tokenizer
    # A tokenizer.json may have been saved with padding or truncation on.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if len(tokenizer.encode("").ids) != 2:
        raise ValueError(f"tokenizer {folder} does not add [CLS] and [SEP] to a text")
    num_ids = max(fast.get_vocab().values()) + 1
    if num_ids > vocab_size:
        raise ValueError(
            f"tokenizer {folder} has {num_ids} ids, the embedding {vocab_size} rows "
            "(vocab_size in config.json)"
        )
    return tokenizer, fast.model_max_length


def parsed_tokenizer(text: str, folder: Path) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json.

    Args:
      text: the content of the file.
      folder: its folder, for the error.

    Raises:
      ValueError: if it cannot be parsed.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # as above
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> ValueError:
    reason = f"{' '.join(str(error).split()):.200}" or type(error).__name__
    return ValueError(f"cannot read a tokenizer from {folder}: {reason}")
