"""Exact bytes of vocabulary pieces, byte-level or SentencePiece style."""

import functools
import re

# GPT-2's alphabet: the 188 printable Latin-1 characters represent themselves, and the
# characters from U+0100 on represent the other 68 bytes in order.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_level(piece: str) -> bytes:
    """Bytes of a byte-level piece, as in GPT-2, Qwen and Llama 3.

    Raises:
      ValueError: if it has a character that represents no byte.
    """
    byte_of = _byte_of()
    for character in piece:
        if character not in byte_of:
            raise ValueError(
                f"the piece {piece!r:.100} of a byte-level vocabulary has "
                f"{character!r}, which represents no byte"
            )
    return bytes(byte_of[character] for character in piece)


@functools.cache
def _byte_of() -> dict[str, int]:
    hidden = [byte for byte in range(256) if byte not in _PRINTABLE]
    alphabet = {chr(byte): byte for byte in _PRINTABLE}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def sentencepiece(piece: str) -> bytes:
    """Bytes of a SentencePiece piece: "▁" is a space, and "<0xNN>" is one byte."""
    if byte := _BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()
