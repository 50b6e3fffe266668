"""Tokenizers: text to ids and back, with the exact bytes of every id."""

import datetime
import functools
import hashlib
import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsearch.data.chat_template import ChatTemplate, template_file
from jaxsearch.data.saved_tokenizer import save_backend
from jaxsearch.data.token_bytes import byte_level, sentencepiece
from jaxsearch.data.tokenizer_files import read_backend, read_end_ids
from jaxsearch.id_ranges import IdRanges
from jaxsearch.models.hub import TOKENIZER, local_folder

# Any text, to see what a tokenizer puts before texts.
_PROBE = "a"
# Far above any vocabulary; limits the tables of all ids that are kept in memory.
_MAX_IDS = 2**24
_IN_BRACKETS = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


class Tokenizer:
    """A Hugging Face fast tokenizer whose ids have known bytes.

    `decode` joins the bytes of the ids, so it is exact however the ids are split.

    Args:
      backend: a `transformers.PreTrainedTokenizerFast`, byte-level (Qwen, Llama 3)
        or with "▁" for a space (SentencePiece style, with byte fallback).
      folder: where it was read from, for error messages.
      end_token: the token that ends a row; empty means the tokenizer's own, or the
        first of `other_end_ids` if it has none.
      other_end_ids: other ids that end a row when they are sampled.
      prompt: "chat" renders prompts with the chat template, "base" uses them as plain
        text, and "auto" is "chat" if there is a template.
      template_source: the file of the chat template, for error messages.
      date: the day that the chat template reads as today's (YYYY-MM-DD); "" for today.

    Raises:
      ValueError: if there is no end token, or no template for prompt="chat".
    """

    def __init__(
        self,
        backend,
        folder: str = "(made here)",
        *,
        end_token: str = "",
        other_end_ids: Sequence[int] = (),
        prompt: str = "auto",
        template_source: str = "",
        date: str = "",
    ):
        end_id = backend.eos_token_id
        if end_token:
            end_id = backend.get_vocab().get(end_token)
            if end_id is None:
                raise ValueError(
                    f"tokenizer {folder} has no token {end_token!r} to end rows with; "
                    f"its own end token is {backend.eos_token!r:.80}"
                )
        if end_id is None and other_end_ids:
            end_id = other_end_ids[0]
        if end_id is None:
            raise ValueError(
                f"tokenizer {folder} has no end token: expected eos_token in "
                "tokenizer_config.json; add one or name one (model.end_token)"
            )
        if prompt == "chat" and backend.chat_template is None:
            raise ValueError(
                f"tokenizer {folder} has no chat template; use model.prompt base"
            )
        self.backend = backend
        self._folder = folder
        self.end_id: int = end_id
        # Demonstrations end with the first of these.
        self.end_ids: tuple[int, ...] = tuple(dict.fromkeys((end_id, *other_end_ids)))
        self._prompt = prompt
        day = datetime.date.fromisoformat(date) if date else datetime.date.today()
        self._template = ChatTemplate(
            backend=backend, source=template_source or folder, date=day
        )
        # Padding is never read, because lengths are explicit, so any id works.
        has_pad = backend.pad_token_id is not None
        self.pad_id: int = backend.pad_token_id if has_pad else self.end_id
        self.unknown_id: int | None = backend.unk_token_id
        self.num_ids = max(backend.get_vocab().values(), default=0) + 1
        if self.num_ids > _MAX_IDS:
            raise ValueError(
                f"tokenizer {folder} has the id {self.num_ids - 1:,}; expected ids "
                f"below {_MAX_IDS:,}"
            )

    @classmethod
    def load(
        cls,
        folder: str,
        *,
        model: str = "",
        end_token: str = "",
        prompt: str = "auto",
        date: str = "",
    ) -> "Tokenizer":
        """Reads a local folder, or a Hub id through its cache.

        Rows end with the tokenizer's end token and with those that `read_end_ids`
        finds; or with `end_token` only, if it is given.

        Args:
          folder: the tokenizer's folder or Hub id.
          model: the folder or Hub id of the model, whose end tokens count; "" for
            `folder`.
          end_token: see `Tokenizer`.
          prompt, date: see `Tokenizer`.

        Raises:
          ValueError: if there is no fast tokenizer, it has no end token, or the files
            list end tokens that it does not have.
        """
        # Named as the user named it: a model's folder has its tokenizer too.
        kind = "model" if folder == model else "tokenizer"
        local = local_folder(folder, kind, TOKENIZER)
        backend = read_backend(local)
        others: tuple[int, ...] = ()
        if not end_token:
            known_ids = frozenset(backend.get_vocab().values())
            if model:
                model_folder = local_folder(model, "model", ("*.json",))
                others = read_end_ids(model_folder, known_ids)
            others = others or read_end_ids(local, known_ids)
        return cls(
            backend,
            folder,
            end_token=end_token,
            other_end_ids=others,
            prompt=prompt,
            template_source=str(template_file(local)),
            date=date,
        )

    @property
    def takes_system(self) -> bool:
        """Whether the chat template writes system messages."""
        return self._template.takes_system

    @property
    def has_chat_prompt(self) -> bool:
        """Whether prompts are rendered with the chat template."""
        return self._prompt != "base" and self.backend.chat_template is not None

    def encode(self, text: str) -> list[int]:
        """Ids of the text. Special tokens are recognised, but none are added."""
        return self.backend.encode(text, add_special_tokens=False)

    def decode(self, ids) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD.

        Ids beyond the vocabulary, which a padded embedding can produce, have no bytes.
        """
        pieces = (self.id_bytes[i] for i in ids if i < self.num_ids)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def encode_prompt(self, text: str, messages: list[dict[str, str]]) -> list[int]:
        """Ids of the prompt: the messages in the chat template, or the plain text.

        Plain text begins as the tokenizer itself begins texts. Chat templates write the
        begin token themselves, or the model was trained without it.
        """
        ids = self.encode(self.render_prompt(text, messages))
        begin, width = [*self.begin_ids], len(self.begin_ids)
        while begin and ids[:width] == begin == ids[width : 2 * width]:
            ids = ids[width:]
        if self.has_chat_prompt or ids[:width] == begin:
            return ids
        return begin + ids

    @functools.cached_property
    def begin_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before a text, such as Llama's begin token."""
        alone, whole = self.encode(_PROBE), self.backend.encode(_PROBE)
        starts = range(len(whole) - len(alone) + 1)
        found = (i for i in starts if whole[i : i + len(alone)] == alone)
        return tuple(whole[: next(found, 0)])

    def render_prompt(self, text: str, messages: list[dict[str, str]]) -> str:
        """The prompt: the messages in the chat template, or the plain text.

        If the last message is the assistant's, it is the start of the reply. It is
        appended to the rendered prompt unchanged, because templates strip and close
        messages; but only once, because some templates also begin the reply, with
        <think>.
        """
        if not self.has_chat_prompt:
            return text
        begun = ""
        if messages and messages[-1]["role"] == "assistant":
            messages, begun = messages[:-1], messages[-1]["content"]
        rendered = self._template.render(messages)
        is_written = begun.strip() and rendered.rstrip().endswith(begun.strip())
        return rendered if is_written else rendered + begun

    def unknown_words(self, text: str) -> list[str]:
        """Words of the text, between white space, that have an unknown token."""
        if self.unknown_id is None:
            return []
        encoded = self.backend(
            text, add_special_tokens=False, return_offsets_mapping=True
        )
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        unknown = [span for i, span in spans if i == self.unknown_id]
        words = [
            (word.start(), word.end(), word[0]) for word in re.finditer(r"\S+", text)
        ]
        return [
            word
            for first, last, word in words
            if any(start < last and end > first for start, end in unknown)
        ]

    @functools.cached_property
    def id_bytes(self) -> list[bytes]:
        """The exact bytes of every id; b"" for ids that the vocabulary skips.

        Raises:
          ValueError: if a piece has none; the error names it.
        """
        table = [b""] * self.num_ids
        added = {i: t.content for i, t in self.backend.added_tokens_decoder.items()}
        is_byte_level = "ByteLevel" in json.dumps(
            json.loads(self.backend.backend_tokenizer.to_str())["decoder"]
        )
        to_bytes = byte_level if is_byte_level else sentencepiece
        try:
            for piece, i in self.backend.get_vocab().items():
                table[i] = added[i].encode() if i in added else to_bytes(piece)
        except ValueError as error:
            raise ValueError(
                f"tokenizer {self._folder}: {error}; a token that is no byte-level "
                "piece belongs to the added tokens"
            ) from None
        return table

    @functools.cached_property
    def id_ranges(self) -> IdRanges:
        """The ids that have a token."""
        ids = np.unique([*self.backend.get_vocab().values()])
        runs = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
        return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)

    @functools.cached_property
    def keeps_ascii(self) -> bool:
        """Whether the ids of an ASCII text spell that text, as in byte-level ones."""
        text = f"a {string.ascii_letters}{string.digits}{string.punctuation}"
        return self.decode(self.encode(text)) == text

    @functools.cached_property
    def special_strings(self) -> tuple[str, ...]:
        """Texts of control tokens, which must not enter a context from a passage.

        They are the special tokens, and other added tokens in brackets, such as
        `<tool_call>` and `<|fim_prefix|>`, which models also obey. (Other added tokens
        are words or white space.)
        """
        return tuple(
            token.content
            for i, token in self.backend.added_tokens_decoder.items()
            if i in self.special_ids or _IN_BRACKETS.fullmatch(token.content)
        )

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, including the end tokens."""
        added = self.backend.added_tokens_decoder.items()
        return frozenset([*self.end_ids, *(i for i, t in added if t.special)])

    @property
    def special_config(self) -> dict[str, Any]:
        """Ids of begin, end and padding tokens, in the form of Hugging Face configs.

        Generation stops at any of the end tokens. Without a padding token, the padding
        id is that of the end token.
        """
        ends = self.end_ids if len(self.end_ids) > 1 else self.end_id
        return {
            "bos_token_id": self.backend.bos_token_id,
            "eos_token_id": ends,
            "pad_token_id": self.pad_id,
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the bytes of all ids, the end tokens and the prompt template."""
        digest = hashlib.sha256()
        for piece in self.id_bytes:
            digest.update(len(piece).to_bytes(4, "big") + piece)
        template = self.backend.chat_template if self.has_chat_prompt else None
        digest.update(f"{self.end_ids} {template}".encode())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes the files that transformers reads, with the end tokens.

        `AutoTokenizer` makes the same tokenizer of them; see `save_backend`. End tokens
        are in generation_config.json.
        """
        save_backend(self.backend, folder)
        ids = json.dumps(self.special_config, indent=2)
        (folder / "generation_config.json").write_text(ids + "\n")


def pad_rows(rows: list[list[int]], row_len: int, pad_id: int) -> np.ndarray:
    """Rows of ids as one int32 array, padded on the right."""
    out = np.full((len(rows), row_len), pad_id, np.int32)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out
