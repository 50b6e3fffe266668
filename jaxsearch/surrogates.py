"""Halves of surrogate pairs: JSON can spell them, but they are not text.

They come from texts that were cut between the two halves, and, as arguments of a
command, from bytes that are not UTF-8. No tokenizer accepts them.
"""


def check_text(text: str, what: str) -> None:
    """Checks that a string can be encoded.

    Args:
      text: the string.
      what: name of the string, which begins the error.

    Raises:
      ValueError: if it contains half of a surrogate pair.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise ValueError(
            f"{what} contains half of a surrogate pair ({half}) at character "
            f"{error.start + 1}, which is not valid text; write the whole character, "
            "or remove it"
        ) from None


def whole_characters(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair."""
    if text.isascii():
        return text
    # Two halves that belong together become the character that they stand for.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
