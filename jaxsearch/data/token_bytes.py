"""Exact bytes of vocabulary pieces, byte-level or SentencePiece style."""

import functools

# GPT-2's alphabet: the 188 printable Latin-1 characters represent themselves, and the
# characters from U+0100 on represent the other 68 bytes in order.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


def byte_level(piece: str) -> bytes:
    """Bytes of a byte-level piece, as in GPT-2, Qwen and Llama 3."""
    return bytes(_byte_of()[character] for character in piece)


@functools.cache
def _byte_of() -> dict[str, int]:
    hidden = [byte for byte in range(256) if byte not in _PRINTABLE]
    alphabet = {chr(byte): byte for byte in _PRINTABLE}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def sentencepiece(piece: str) -> bytes:
    """Bytes of a SentencePiece piece: "▁" is a space, and "<0xNN>" is one byte."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()
