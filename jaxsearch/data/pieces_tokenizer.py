"""Tokenizers made from a list of pieces, for generated texts and benchmarks."""

from jaxsearch.data.tokenizer import Tokenizer


def pieces_tokenizer(pieces: list[str], *, end: str = "</s>") -> Tokenizer:
    """Makes a tokenizer that splits each word into the fewest of the given pieces.

    A piece at the start of a word starts with "▁", the space before the word. Id 0 is
    the end token and id 1 the unknown piece; the other ids follow the order of
    `pieces`.
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
