"""Tests of `bench encode`: texts of given lengths through the encoder."""

import json
import sys

import numpy as np
import pytest

from jaxsearch.bench import encode
from jaxsearch.bench.encode import bench_encode, phases
from jaxsearch.bench.encode_workload import _PACKAGED, read_encode_workload
from jaxsearch.bench.roofline import Product
from jaxsearch.commands.main import main
from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.encoder_options import EncoderOptions

TINY = {
    "model": {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "vocab_size": 50,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
    },
    "pooling": "cls",
    "dtype": "float32",
    "num_texts": 21,
    "shortest": 4,
    "longest": 36,
    "batch_size": 4,
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "workload.json"
        path.write_text(json.dumps(TINY | changes))
        return str(path)

    return write


def test_texts_have_the_lengths_that_the_workload_says(write, tmp_path):
    workload = read_encode_workload(write())
    assert (min(workload.lengths), max(workload.lengths)) == (4, 36)
    assert np.median(workload.lengths) == 12  # the middle of the logarithms
    assert workload.lengths != sorted(workload.lengths)
    (tmp_path / "model").mkdir()
    workload.write(tmp_path / "model")
    encoder = read_bert_encoder(str(tmp_path / "model"), EncoderOptions())
    assert encoder.settings.pooling == "cls" and encoder.settings.is_normalised
    rows, num_truncated = encoder._ids("", workload.texts)
    assert [len(row) for row in rows] == workload.lengths
    assert num_truncated == 0 and 1 not in {i for row in rows for i in row}
    assert json.loads((tmp_path / "model" / "texts.json").read_text()) == workload.texts


def test_flops_are_those_of_the_architecture(monkeypatch, write):
    monkeypatch.setattr(encode, "product_seconds", lambda product, dtype: 1.0)
    monkeypatch.setattr(encode, "_attention_seconds", lambda *shape: 1.0)
    monkeypatch.setattr(encode.jax, "local_device_count", lambda: 1)
    workload = read_encode_workload(write())
    lengths = [3, 5, 8]
    work = phases(workload.architecture, "float32", lengths)
    # Two FLOPs per weight of a block's matrices: qkv, out, up, down.
    weights = 2 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 24)
    assert work["linear"].flops == 16 * 2 * weights
    assert work["linear"].seconds == 4 * 16 / encode._TOKENS
    # Two products per pair of tokens, each with two FLOPs per dimension of the width.
    assert work["attention"].flops == 2 * 4 * 16 * (9 + 25 + 64)
    assert Product(3, 5, 7, 2).flops == 2 * 3 * 5 * 7 * 2


def test_the_summary_says_what_was_done(monkeypatch, write):
    monkeypatch.setattr(encode, "_TOKENS", 64)
    result = bench_encode(write(), repeats=2, peers={})
    assert result["tokens"] == sum(read_encode_workload(write()).lengths)
    assert result["workload"] == {"texts": 21, "shortest": 4, "longest": 36}
    assert len(result["runs"]) == 2 and result["recompilations"] == 0
    assert result["tokens_per_s"] == result["tokens"] / result["seconds"]
    # The fraction itself depends on the machine: such small products are mostly noise.
    limit_seconds = sum(phase["seconds"] for phase in result["limit"].values())
    assert result["limit_fraction"] == pytest.approx(limit_seconds / result["seconds"])
    assert set(result["limit"]) == {"linear", "attention"}
    assert json.loads(json.dumps(result)) == result


def test_a_peer_gets_the_same_model_and_texts(write, tmp_path, monkeypatch):
    """Tests the exchange with a peer process that returns vectors of zeros."""
    scripts = tmp_path / "peers"
    scripts.mkdir()
    (scripts / "sentence_transformers_peer.py").write_text(
        "import json, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "texts = json.loads((folder / 'texts.json').read_text())\n"
        "assert json.loads((folder / 'workload.json').read_text())"
        " == {'batch_size': 4, 'dtype': 'float32'}\n"
        "assert (folder / 'model.safetensors').is_file() and len(texts) == 21\n"
        "print('{}', flush=True)\n"
        "for _ in sys.stdin:\n"
        "    np.save(folder / 'vectors.npy', np.zeros((21, 16), np.float32))\n"
        "    print(json.dumps({'seconds': 2.5, 'tokens': 21}), flush=True)\n"
    )
    monkeypatch.setattr("jaxsearch.bench.peer._SCRIPTS", scripts)
    monkeypatch.setattr(encode, "_TOKENS", 64)
    peers = {"sentence-transformers": sys.executable}
    result = bench_encode(write(), repeats=2, peers=peers)
    peer = result["sentence-transformers"]
    assert (peer["seconds"], peer["runs"]) == (2.5, [2.5, 2.5])
    assert peer["tokens_per_s"] == result["tokens"] / 2.5
    assert peer["times_slower"] == 2.5 / result["seconds"]
    # Our vectors have length 1, so their largest entry is between these bounds.
    assert 0.25 <= peer["max_difference"] <= 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_texts": 0}, "must be at least 1"),
        ({"shortest": 2}, "expected 2 < shortest <= longest, got 2 and 36"),
        ({"shortest": 37}, "got 37 and 36"),
        ({"longest": 41}, "longest is 41, expected at most the model's 40"),
        ({"pooling": "max"}, "pooling must be one of"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"model": {"model_type": "t5"}}, "model_type 't5'"),
    ],
)
def test_a_bad_workload_is_one_line_and_exit_2(write, capsys, changes, message):
    assert main(["bench", "encode", "--workload", write(**changes)]) == 2
    error = capsys.readouterr().err
    assert message in error and "workload.json" in error
    assert error.count("\n") == 1


def test_bad_usage_is_one_line_and_exit_2(write, capsys, tmp_path):
    python = ["--peer-python", sys.executable]
    for words, message in (
        (["--workload", "nope"], "neither a file nor one of: equal_lengths, ragged"),
        (["--workload", write(), "--repeats", "0"], "--repeats must be at least 1"),
        (["--workload", write(), "--peer", "x"], "one --peer-python for each"),
        (["--workload", write(), "--peer", "tunix", *python], "unknown peer 'tunix'"),
    ):
        assert main(["bench", "encode", *words]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "cut.json").write_text('{"num_texts": 4}')
    assert main(["bench", "encode", "--workload", str(tmp_path / "cut.json")]) == 2
    assert "cut.json: the workload has no 'model'" in capsys.readouterr().err


def test_packaged_workloads_are_sound():
    names = sorted(path.stem for path in _PACKAGED.glob("*.json"))
    assert names == ["equal_lengths", "ragged_lengths"]
    equal, ragged = map(read_encode_workload, names)
    assert set(equal.lengths) == {128}
    assert min(ragged.lengths) == 8 and max(ragged.lengths) == 256
    assert 0.9 < sum(equal.lengths) / sum(ragged.lengths) < 1.1
