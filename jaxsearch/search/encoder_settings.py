"""Settings of a BERT encoder, from its sentence-transformers files or from options.

`modules.json` lists the modules after the network, `1_Pooling/config.json` states how
tokens become one vector, and `config_sentence_transformers.json` may contain prompts
for queries and passages. Nothing is inferred from the name of a model or a folder.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch.folder_files import file_inside
from jaxsearch.json_files import read_json, read_json_object
from jaxsearch.models.bert import POOLINGS
from jaxsearch.search.encoder_options import EncoderOptions

DTYPES = ("float32", "bfloat16")
# The first of these names that a model has is used, as in sentence-transformers.
_QUERY_PROMPTS = ("query",)
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
_POOLING_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The settings that, with weights and tokenizer, determine a vector."""

    pooling: str  # one of POOLINGS
    is_normalised: bool  # whether vectors are scaled to length 1
    query_prefix: str
    passage_prefix: str
    max_len: int  # in tokens, with [CLS] and [SEP]; longer texts are truncated
    dtype: str = "float32"  # of activations, one of DTYPES

    def __post_init__(self):
        for name, known in (("pooling", tuple(POOLINGS)), ("dtype", DTYPES)):
            value = {"pooling": self.pooling, "dtype": self.dtype}[name]
            if value not in known:
                raise ValueError(
                    f"encoder {name} {value!r:.80} is not supported; expected one of "
                    f"{', '.join(known)}"
                )
        # [CLS], [SEP] and at least one token between them.
        if self.max_len < 3:
            raise ValueError(f"encoder max_len must be at least 3, got {self.max_len}")


def read_settings(
    folder: Path, options: EncoderOptions, *, max_positions: int, tokenizer_len: int
) -> EncoderSettings:
    """Reads the settings of a model's folder; options take precedence.

    Args:
      folder: the model's folder.
      options: settings of the user.
      max_positions: longest row of the network, in tokens.
      tokenizer_len: longest row of the tokenizer, used if the configuration states
        none.

    Raises:
      ValueError: if a file has an unsupported setting, or if the model does not state
        a setting; the message names the file, or the option to give.
    """
    pooling, is_normalised = options.pooling, options.is_normalised
    modules = _modules(folder)
    if modules is None and None in (pooling, is_normalised):
        raise ValueError(
            f"encoder folder {folder} has no modules.json, which would state how its "
            "vectors are made: give --pooling mean or --pooling cls, and --normalize "
            "or --no-normalize"
        )
    if modules is not None:
        pooling = _pooling(folder, modules["Pooling"]) if pooling is None else pooling
        if is_normalised is None:
            is_normalised = "Normalize" in modules
    prompts = _Prompts.read(folder / "config_sentence_transformers.json")
    query_prefix, passage_prefix = options.query_prefix, options.passage_prefix
    if query_prefix is None:
        query_prefix = prompts.first_of(_QUERY_PROMPTS, "--query-prefix")
    if passage_prefix is None:
        passage_prefix = prompts.first_of(_PASSAGE_PROMPTS, "--passage-prefix")
    return EncoderSettings(
        pooling=pooling,
        is_normalised=is_normalised,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        max_len=_max_len(folder, max_positions, tokenizer_len),
        dtype="float32" if options.dtype is None else options.dtype,
    )


def _modules(folder: Path) -> dict[str, str] | None:
    """Maps the kind of each module to its folder; None without a modules.json."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules = read_json(path)
    try:
        found = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in modules}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a list of modules with type and path ({error})"
        ) from None
    if list(found) not in (
        ["Transformer", "Pooling"],
        ["Transformer", "Pooling", "Normalize"],
    ):
        raise ValueError(
            f"{path}: modules {list(found)!r:.200} are not supported; expected "
            "Transformer, Pooling and optionally Normalize"
        )
    return found


def _pooling(folder: Path, module: str) -> str:
    path = file_inside(folder, f"{module}/config.json", str(folder / "modules.json"))
    config = _read_object(path, "give --pooling mean or --pooling cls")
    if not config.get("include_prompt", True):
        raise ValueError(f"{path}: include_prompt false is not supported")
    # Older files have one flag per kind of pooling.
    flags = [k for k, v in config.items() if k.startswith("pooling_mode_") and v]
    found = config.get(
        "pooling_mode", [_POOLING_FLAGS.get(flag, flag) for flag in flags]
    )
    if isinstance(found, list) and len(found) == 1:
        [found] = found
    if not isinstance(found, str) or found not in POOLINGS:
        raise ValueError(
            f"{path}: pooling {found!r:.60} is not supported; expected one of "
            f"{', '.join(POOLINGS)}"
        )
    return found


@dataclasses.dataclass(frozen=True)
class _Prompts:
    """The prompts of a model by name; empty if the model has no file for them."""

    path: Path
    texts: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "_Prompts":
        if not path.is_file():
            return cls(path, {})
        texts = _read_object(path).get("prompts") or {}
        if not isinstance(texts, dict) or not all(
            isinstance(text, str | None) for text in texts.values()
        ):
            raise ValueError(
                f"{path}: prompts must be strings by name, got {texts!r:.100}"
            )
        return cls(path, texts)

    def first_of(self, names: Sequence[str], option: str) -> str:
        """Returns the prompt with the first known name; "" if there are no prompts.

        Raises:
          ValueError: if there are prompts, but none with these names.
        """
        for name in names:
            if name in self.texts:
                return self.texts[name] or ""
        if self.texts:
            raise ValueError(
                f"{self.path}: expected a prompt named {' or '.join(names)}, found "
                f"{sorted(self.texts)!r:.200}: give {option}, which may be empty"
            )
        return ""


def _max_len(folder: Path, max_positions: int, tokenizer_len: int) -> int:
    path = folder / "sentence_bert_config.json"
    config = _read_object(path) if path.is_file() else {}
    if config.get("do_lower_case"):
        raise ValueError(
            f"{path}: do_lower_case is not supported; expected false (the tokenizer "
            "lowercases)"
        )
    found = config.get("max_seq_length")
    if found is None:
        return min(max_positions, tokenizer_len)
    if not isinstance(found, int) or not 3 <= found <= max_positions:
        raise ValueError(
            f"{path}: max_seq_length must be in 3..{max_positions} (the network's "
            f"longest row), got {found!r:.60}"
        )
    return found


def _read_object(path: Path, advice: str = "") -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {advice}")
    return read_json_object(path)
