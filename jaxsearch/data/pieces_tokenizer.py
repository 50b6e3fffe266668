"""Tokenizers made from a list of pieces, for generated texts and for benchmarks."""

from jaxsearch.data.tokenizer import Tokenizer


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
