"""Tests of indexes built from vectors that exist already."""

import json
import struct

import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.build_settings import BuildSettings
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import write_passages
from jaxsearch.search.vector_files import VectorFile


@pytest.fixture(scope="module")
def vectors(passages, encoder):
    return encoder.encode_passages(passages)


def faiss_file(path, vectors, kind=b"IxFI"):
    """A flat index of FAISS, written by its description."""
    rows, dims = vectors.shape
    head = struct.pack("<4siqqq?i", kind, dims, rows, 1 << 20, 1 << 20, True, 0)
    path.write_bytes(head + struct.pack("<Q", vectors.size) + vectors.tobytes())


def write(path, form, vectors):
    if form == "npy":
        np.save(path.with_suffix(".npy"), vectors)
        return VectorFile(path=path.with_suffix(".npy"))
    if form == "faiss":
        faiss_file(path, vectors)
        return VectorFile(path=path)
    vectors.tofile(path)
    return VectorFile(path=path, dims=vectors.shape[1], dtype=form)


@pytest.mark.parametrize("form", ["npy", "faiss", "float32", "float16"])
def test_vectors_of_each_form_make_the_index(
    corpus, passages, encoder, vectors, queries, tmp_path, form
):
    given = vectors.astype(np.float16) if form == "float16" else vectors
    file = write(tmp_path / "v", form, given)
    out = tmp_path / "index"
    settings = BuildSettings(vectors=file, shard_rows=100)
    build_index_folder(corpus=corpus, encoder=encoder, out=out, settings=settings)
    index = load_index(out)
    assert (index.vectors.rows(np.arange(600)) == vectors.astype(np.float16)).all()
    found = index.search(queries[:20], 1)
    assert [hit.passage for [hit] in found] == passages[:140:7]


def test_a_file_of_faiss_itself(vectors, tmp_path):
    faiss = pytest.importorskip("faiss", reason="needs faiss-cpu")
    for kind, index in (
        ("IxFI", faiss.IndexFlatIP(256)),
        ("IxF2", faiss.IndexFlatL2(256)),
    ):
        index.add(vectors)
        path = tmp_path / kind
        faiss.write_index(index, str(path))
        assert path.read_bytes()[:4] == kind.encode()
        assert (VectorFile(path=path).open() == vectors).all()
    # The description of the format above is right.
    faiss_file(tmp_path / "ours", vectors)
    read = faiss.read_index(str(tmp_path / "ours"))
    assert (read.reconstruct_n(0, 600) == vectors).all()
    tree = faiss.IndexHNSWFlat(256, 4, faiss.METRIC_INNER_PRODUCT)
    tree.add(vectors[:50])
    faiss.write_index(tree, str(tmp_path / "hnsw"))
    with pytest.raises(ValueError, match="expected a flat one"):
        VectorFile(path=tmp_path / "hnsw").open()


def test_vectors_without_an_encoder(
    corpus, encoder, vectors, queries, tmp_path, capsys
):
    np.save(tmp_path / "v.npy", vectors)
    out = str(tmp_path / "index")
    words = ["index", "build", "--corpus", str(corpus), "--encoder", "none"]
    assert main([*words, "--vectors", str(tmp_path / "v.npy"), "--out", out]) == 0
    capsys.readouterr()
    assert main(["index", "search", out, "ka"]) == 2
    assert "was built with `--encoder none`" in capsys.readouterr().err
    index = load_index(out)
    found = index.search_vectors(encoder.encode_queries(queries), 3)
    # With the encoder given, texts can be searched too.
    assert load_index(out, encoder=encoder).search(queries, 3) == found
    assert main([*words, "--out", out + "2"]) == 2
    assert "--encoder none needs --vectors FILE" in capsys.readouterr().err


def bad_vectors(name, vectors):
    if name == "another order":
        return vectors[::-1], "median cosine of 0.*another prefix.*pooling.*order"
    if name == "another number":
        return vectors[:599], "599 vectors for 600 passages; expected one for each"
    if name == "another width":
        return vectors[:, :128], "of 128 dimensions, the encoder 'tfidf' makes 256"
    if name == "a NaN row":
        bad = vectors.copy()
        bad[417] = np.nan
        return bad, r"row 417 \(from 0\) has NaN"
    return vectors.astype(np.int32), "expected rows of float16 or float32, found int32"


@pytest.mark.parametrize(
    "name",
    ["another order", "another number", "another width", "a NaN row", "integers"],
)
def test_vectors_that_do_not_fit(corpus, encoder, vectors, tmp_path, name):
    bad, message = bad_vectors(name, vectors)
    np.save(tmp_path / "v.npy", bad)
    settings = BuildSettings(vectors=VectorFile(path=tmp_path / "v.npy"))
    with pytest.raises(ValueError, match=message) as caught:
        build_index_folder(
            corpus=corpus, encoder=encoder, out=tmp_path / "i", settings=settings
        )
    assert "\n" not in str(caught.value)
    # The vectors can be corrected: nothing of them is kept.
    np.save(tmp_path / "v.npy", vectors)
    if name != "a NaN row":
        build_index_folder(
            corpus=corpus, encoder=encoder, out=tmp_path / "i", settings=settings
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-4], "expected .* bytes for 600 vectors .* the file was cut"),
        (lambda raw: b"IwFl" + raw[4:], "of the kind b'IwFl', expected a flat one"),
        (lambda raw: b"IxPQ" + raw[4:], "of the kind b'IxPQ', expected a flat one"),
        (lambda raw: raw[:20], "expected a flat one"),
        (lambda raw: b"", "give --dims and --vectors-dtype"),
    ],
    ids=["cut", "inverted lists", "product quantizer", "header only", "empty"],
)
def test_damaged_files_of_faiss(vectors, tmp_path, change, message):
    faiss_file(tmp_path / "v", vectors)
    (tmp_path / "v").write_bytes(change((tmp_path / "v").read_bytes()))
    with pytest.raises(ValueError, match=message):
        VectorFile(path=tmp_path / "v").open()


def test_distances_of_vectors_of_other_lengths_are_refused(vectors, tmp_path):
    faiss_file(tmp_path / "v", 2 * vectors, b"IxF2")
    with pytest.raises(ValueError, match=r"not of length 1 \(2.000 to 2.000\)"):
        VectorFile(path=tmp_path / "v").open()


def test_raw_numbers_need_their_width(vectors, tmp_path):
    path = tmp_path / "v.memmap"
    vectors.tofile(path)
    with pytest.raises(ValueError, match="no whole number of rows of 1000 float32"):
        VectorFile(path=path, dims=1000, dtype="float32").open()
    with pytest.raises(ValueError, match="must be one of float16, float32, got 'int8'"):
        VectorFile(path=path, dims=256, dtype="int8")
    with pytest.raises(ValueError, match="none: No such file"):
        VectorFile(path=tmp_path / "none").open()


def test_passages_with_another_prefix_are_refused(passages, tmp_path):
    """The mistake that --vectors is checked for: e5 without its "passage: "."""
    from jaxsearch.search.bert_encoder_folder import read_bert_encoder
    from jaxsearch.search.encoder_options import EncoderOptions
    from tests.search.bert_folder import write_folder

    names = {word for p in passages for word in p.contents.lower().split()}
    words = sorted({word.strip('".') for word in names})
    model = tmp_path / "model"
    write_folder(model, words)
    few = passages[:64]
    write_passages(few, tmp_path / "few.jsonl")
    right = EncoderOptions(passage_prefix="likes smith town")
    np.save(
        tmp_path / "v.npy", read_bert_encoder(str(model), right).encode_passages(few)
    )
    base = ["index", "build", "--corpus", str(tmp_path / "few.jsonl")]
    base += ["--vectors", str(tmp_path / "v.npy"), "--encoder", str(model)]
    assert main([*base, "--out", str(tmp_path / "i"), "--passage-prefix", "is"]) == 2
    good = ["--passage-prefix", "likes smith town", "--json"]
    assert main([*base, "--out", str(tmp_path / "i"), *good]) == 0
    manifest = json.loads((tmp_path / "i" / "index.json").read_text())
    assert (manifest["encoder_name"], manifest["num_passages"]) == ("bert", 64)
