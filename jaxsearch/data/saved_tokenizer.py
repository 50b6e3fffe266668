"""Writes a tokenizer so that the programs of others read the same one.

`AutoTokenizer` of transformers 5 chooses a class by the model type of config.json. For
some types, qwen2 among them, it does not accept the class that tokenizer_config.json
names, and the class that it takes instead has a normaliser and a pre-tokenizer of its
own: a tokenizer of words becomes one that knows no word. A class that a folder brings
along (`auto_map`) is not replaced. Where that class may not be run, because its code is
not trusted, transformers reads tokenizer.json as it is.
"""

import json
from pathlib import Path
from typing import Any

from jaxsearch.data.tokenizer_files import TOKENIZER_CONFIG_FILE, read_json

_MODULE, _CLASS = "tokenizer_of_file", "TokenizerOfFile"
_CODE = f'''\
"""The tokenizer of tokenizer.json, which transformers would change for this model."""

from transformers import PreTrainedTokenizerFast


class {_CLASS}(PreTrainedTokenizerFast):
    """Encodes and decodes as tokenizer.json says."""
'''


def save_backend(backend: Any, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and what `AutoTokenizer` needs.

    The class is named as transformers 4 and 5 know it. Decoding leaves spaces as they
    are, as `Tokenizer.decode` does.

    Args:
      backend: a `transformers.PreTrainedTokenizerFast`.
      folder: folder to write; the config.json of the model is there already, if the
        tokenizer belongs to one.
    """
    backend.save_pretrained(folder)
    path = folder / TOKENIZER_CONFIG_FILE
    fields = read_json(path) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    # The code that it names is not copied.
    fields.pop("auto_map", None)
    _write(path, fields)
    if (folder / "config.json").exists() and _is_changed(backend, folder):
        (folder / f"{_MODULE}.py").write_text(_CODE)
        classes = [None, f"{_MODULE}.{_CLASS}"]  # the slow one, the fast one
        _write(path, fields | {"auto_map": {"AutoTokenizer": classes}})


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")


def _is_changed(backend: Any, folder: Path) -> bool:
    """Whether `AutoTokenizer` makes another tokenizer of the folder."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return _parts(found) != _parts(backend)


def _parts(backend: Any) -> dict[str, Any]:
    """The parts of a tokenizer.json that determine ids and texts."""
    parts = json.loads(
        backend.backend_tokenizer.to_str(),
        # It moves offsets only.
        object_hook=lambda part: {k: v for k, v in part.items() if k != "trim_offsets"},
    )
    if parts["decoder"] is not None and parts["decoder"]["type"] == "ByteLevel":
        # Its options have no effect on a decoder.
        parts["decoder"] = "ByteLevel"
    del parts["truncation"], parts["padding"]
    return parts
