"""Text to ids and back, with the exact bytes of every id."""

import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np

# GPT-2's alphabet: the 188 printable Latin-1 characters stand for themselves, the
# other 68 bytes for the characters from U+0100 on, in order.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]

# What transformers 4 and 5 call a tokenizer that is its tokenizer.json and no more.
_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


class Tokenizer:
    """A Hugging Face fast tokenizer whose ids have known bytes.

    Ids are the truth here: `decode` joins bytes, so it is exact over any cut.

    Args:
      backend: a `transformers.PreTrainedTokenizerFast`, byte-level (Qwen, Llama 3)
        or with "▁" for a space (SentencePiece style, byte fallback included).
      folder: where it was read from, if anywhere; named in errors.

    Errors: ValueError if it has no end token, or no bytes can be told.
    """

    def __init__(self, backend, folder: str = "(made here)"):
        if backend.eos_token_id is None:
            raise ValueError(
                f"tokenizer {folder} has no end token: expected eos_token in "
                "tokenizer_config.json; add one and try again"
            )
        self.backend = backend
        self.end_id: int = backend.eos_token_id
        # Padding is never read (lengths are explicit), so any id serves.
        has_pad = backend.pad_token_id is not None
        self.pad_id: int = backend.pad_token_id if has_pad else self.end_id
        self.unknown_id: int | None = backend.unk_token_id
        self.num_ids = max(backend.get_vocab().values()) + 1

    @classmethod
    def load(cls, folder: str) -> "Tokenizer":
        """Reads a local folder, or a Hub id through its cache."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        # A Hub id is "owner/name"; anything else with a slash is a path.
        is_path = folder.startswith((".", "/", "~")) or folder.count("/") != 1
        if is_path and os.sep in folder and not Path(folder).is_dir():
            raise ValueError(f"tokenizer folder {folder} does not exist")
        # A tokenizer of no family says so. AutoTokenizer goes by the model beside it
        # instead, and would read ours in a qwen2 folder as Qwen's.
        is_plain = _class_name(Path(folder)) in _PLAIN_CLASSES
        loader = PreTrainedTokenizerFast if is_plain else AutoTokenizer
        try:
            backend = loader.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"cannot read a tokenizer from {folder}: {reason}"
            ) from None
        if not backend.is_fast:
            raise ValueError(f"tokenizer {folder} has no fast form (tokenizer.json)")
        return cls(backend, folder)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, special tokens recognised, none added."""
        return self.backend.encode(text, add_special_tokens=False)

    def decode(self, ids) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD.

        An id beyond the vocabulary (embeddings are often padded) has no bytes.
        """
        pieces = (self.id_bytes[i] for i in ids if i < self.num_ids)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def encode_prompt(self, text: str, messages: list[dict[str, str]]) -> list[int]:
        """Ids of the prompt: the messages under the chat template, else the text."""
        if self.backend.chat_template is None:
            return self.encode(text)
        rendered = self.backend.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self.encode(rendered)

    @functools.cached_property
    def id_bytes(self) -> list[bytes]:
        """The exact bytes of every id; b"" where the vocabulary has a hole."""
        table = [b""] * self.num_ids
        added = {i: t.content for i, t in self.backend.added_tokens_decoder.items()}
        is_byte_level = "ByteLevel" in json.dumps(
            json.loads(self.backend.backend_tokenizer.to_str())["decoder"]
        )
        to_bytes = _byte_level if is_byte_level else _sentencepiece
        for piece, i in self.backend.get_vocab().items():
            table[i] = added[i].encode() if i in added else to_bytes(piece)
        return table

    @property
    def special_strings(self) -> tuple[str, ...]:
        """Texts of special tokens: none may enter a context from a passage."""
        return tuple(
            token.content
            for i, token in self.backend.added_tokens_decoder.items()
            if i in self.special_ids
        )

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, the end token among them."""
        added = self.backend.added_tokens_decoder.items()
        return frozenset([self.end_id, *(i for i, t in added if t.special)])

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of every id's bytes, the end token and the chat template."""
        digest = hashlib.sha256()
        for piece in self.id_bytes:
            digest.update(len(piece).to_bytes(4, "big") + piece)
        digest.update(f"{self.end_id} {self.backend.chat_template}".encode())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and its companions, as transformers reads them."""
        self.backend.save_pretrained(folder)


def _byte_level(piece: str) -> bytes:
    return bytes(_byte_of()[character] for character in piece)


@functools.cache
def _byte_of() -> dict[str, int]:
    hidden = [byte for byte in range(256) if byte not in _PRINTABLE]
    alphabet = {chr(byte): byte for byte in _PRINTABLE}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _sentencepiece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


def pieces_tokenizer(pieces: list[str], *, end: str = "</s>") -> Tokenizer:
    """A tokenizer that cuts each word into the fewest of the given pieces.

    A piece that begins a word starts with "▁" (the space before it). Ids follow
    the order of `pieces`; the end token and the unknown piece come first.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [(end, 0.0), ("<unk>", -100.0), *((piece, -1.0) for piece in pieces)]
    backend = Backend(models.Unigram(vocabulary, unk_id=1, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    backend.decoder = decoders.Metaspace(prepend_scheme="never", split=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, unk_token="<unk>"
    )
    return Tokenizer(fast)


def pad_rows(rows: list[list[int]], row_len: int, pad_id: int) -> np.ndarray:
    """Rows of ids as one int32 array, padded on the right."""
    out = np.full((len(rows), row_len), pad_id, np.int32)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def _class_name(folder: Path) -> str | None:
    """The class that a local tokenizer folder names, if it names one."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return config.get("tokenizer_class")
