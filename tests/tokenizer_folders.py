"""Tiny byte-level tokenizers, written as Hugging Face folders."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

# Digits in groups of up to three, which a class that transformers chooses by model type
# would split one by one.
PATTERN = r"\p{N}{1,3}|[^\p{N}]+"
BEGIN, END = "<s>", "</s>"
# Ids of the special tokens: after 256 bytes and one merge.
BEGIN_ID, END_ID, NUM_IDS = 257, 258, 259


def write_tokenizer(
    folder: Path,
    *,
    post: str = "$A",
    pattern: str = PATTERN,
    config: dict | None = None,
    generation: dict | None = None,
    normalizer=None,
    added: Sequence[str] = (),
    **tokenizer_config,
) -> str:
    """Writes a folder whose tokenizer has 256 bytes, "12" and two special tokens.

    Args:
      post: what the tokenizer makes of a text $A, such as "<s> $A".
      config: content of config.json; None for no file.
      generation: content of generation_config.json; None for no file.
      normalizer: a normalizer of `tokenizers`; None for no rewriting.
      added: further tokens, which are not special.
      tokenizer_config: further fields of tokenizer_config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12"]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)}, merges=[("1", "2")]
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.add_special_tokens([BEGIN, END])
    backend.add_tokens([*added])
    backend.post_processor = processors.TemplateProcessing(
        single=post, special_tokens=[(BEGIN, BEGIN_ID), (END, END_ID)]
    )
    backend.save(str(folder / "tokenizer.json"))
    fields = {"bos_token": BEGIN, "eos_token": END, **tokenizer_config}
    write_json(folder / "tokenizer_config.json", fields)
    if config is not None:
        write_json(folder / "config.json", config)
    if generation is not None:
        write_json(folder / "generation_config.json", generation)
    return str(folder)


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value))
