"""Tests of the cross-encoder, and of a retriever with it."""

import json

import numpy as np
import pytest

from jaxsearch.search.cross_encoder import read_cross_encoder
from jaxsearch.search.index import Hit, Unanswered
from jaxsearch.search.passages import Passage
from jaxsearch.search.reranked import RerankedRetriever
from tests.search.bert_folder import write_folder
from tests.search.pair_folder import write_pair_folder


@pytest.fixture(scope="module")
def words(passages):
    return sorted({word for p in passages[:200] for word in p.contents.lower().split()})


@pytest.fixture(scope="module")
def folder(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "model"
    write_pair_folder(folder, words, linear=True)
    return folder


@pytest.fixture(scope="module")
def reranker(folder):
    return read_cross_encoder(str(folder))


@pytest.fixture(scope="module")
def pairs(passages):
    """Pairs of all lengths, the longest longer than the network allows."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(30):
        words = passages[i].text.split() * 3
        query = " ".join(words[: rng.integers(1, 12)])
        text = " ".join(words[: rng.integers(1, 40)])
        found.append((query, Passage(id=str(i), contents=f'"{i}"\n{text}')))
    return found


@pytest.mark.slow
def test_no_score_depends_on_other_pairs(reranker, pairs):
    scores = reranker.scores(pairs)
    assert scores.dtype == np.float32 and len(set(scores.tolist())) == len(pairs)
    order = np.random.default_rng(1).permutation(len(pairs))
    assert (reranker.scores([pairs[i] for i in order]) == scores[order]).all()
    assert [reranker.scores([pair])[0] for pair in pairs[:5]] == scores[:5].tolist()


def test_scores_equal_those_of_pytorch(folder, words, pairs, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: the parity extra")
    from transformers import AutoTokenizer, BertForSequenceClassification

    tokens = AutoTokenizer.from_pretrained(folder)(
        [query for query, _ in pairs],
        [passage.contents for _, passage in pairs],
        padding=True,
        truncation="longest_first",
        max_length=64,
        return_tensors="pt",
    )
    assert tokens["attention_mask"].sum(1).max() == 64
    with torch.no_grad():
        model = BertForSequenceClassification.from_pretrained(folder).eval()
        logits = model(**tokens).logits[:, 0]
    found = read_cross_encoder(str(folder)).scores(pairs)
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)
    # Without an activation in config.json, sentence-transformers takes a sigmoid.
    write_pair_folder(tmp_path / "sigmoid", words)
    found = read_cross_encoder(str(tmp_path / "sigmoid")).scores(pairs)
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-6)


def test_folders_that_are_no_reranker_are_refused(folder, words, tmp_path):
    write_folder(tmp_path / "encoder", words)
    with pytest.raises(
        ValueError, match="BertForSequenceClassification with one label"
    ):
        read_cross_encoder(str(tmp_path / "encoder"))
    write_pair_folder(tmp_path / "three", words)
    path = tmp_path / "three" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(ValueError, match="with id2label .*'2': 'c'"):
        read_cross_encoder(str(tmp_path / "three"))
    path.write_text(json.dumps(config | {"id2label": None}))
    with pytest.raises(ValueError, match="with id2label None"):
        read_cross_encoder(str(tmp_path / "three"))
    other = {"sentence_transformers": {"activation_fn": "os.system"}}
    path.write_text(json.dumps(config | other))
    with pytest.raises(ValueError, match="os.system"):
        read_cross_encoder(str(tmp_path / "three"))
    with pytest.raises(ValueError, match="4 to 64 tokens, got 65"):
        read_cross_encoder(str(folder), max_len=65)


class Listed:
    """Finds the first passages for every query, and none for a blank one."""

    def __init__(self, passages):
        self.hits = [Hit(passage=p, score=-float(i)) for i, p in enumerate(passages)]
        self.asked = []

    def search(self, queries, k):
        self.asked.append(k)
        return [self.hits[:k] if query.strip() else [] for query in queries]


def test_candidates_are_put_in_order(reranker, passages):
    listed = Listed(passages[:40])
    retriever = RerankedRetriever(listed, reranker, num_candidates=20)
    queries = [passages[3].title, " ", passages[9].text]
    found = retriever.search(queries, 5)
    assert listed.asked == [20] and [len(hits) for hits in found] == [5, 0, 5]
    pairs = [(queries[2], passage) for passage in passages[:20]]
    scores = reranker.scores(pairs)
    best = np.argsort(-scores)[:5]
    assert [hit.passage for hit in found[2]] == [passages[i] for i in best]
    assert [hit.score for hit in found[2]] == scores[best].tolist()
    # More hits than candidates, and more than there are passages.
    assert len(retriever.search(queries[:1], 30)[0]) == 30
    assert len(retriever.search(queries[:1], 99)[0]) == 40
    found = retriever.search_reranked(queries[:1], 2, num_candidates=3)
    assert listed.asked[-1] == 3 and len(found[0]) == 2
    assert retriever.search([], 5) == []


def test_a_query_without_an_answer_stays_so(reranker):
    class Failing:
        def search(self, queries, k):
            return [Unanswered("no budget") for _ in queries]

    [hits] = RerankedRetriever(Failing(), reranker).search(["x"], 5)
    assert isinstance(hits, Unanswered) and hits.reason == "no budget"


@pytest.mark.parametrize("num_candidates", [0, 1001])
def test_a_bad_number_of_candidates_is_refused(reranker, num_candidates):
    with pytest.raises(ValueError, match=f"got {num_candidates}"):
        RerankedRetriever(Listed([]), reranker, num_candidates=num_candidates)
