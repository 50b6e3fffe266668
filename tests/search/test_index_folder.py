"""Tests of index folders: incomplete or mismatched ones are refused in one line."""

import json
import pickle
from pathlib import Path

import pytest

from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import load_index
from jaxsearch.search.passages import corpus_fingerprint, write_passages
from jaxsearch.search.scann_index import ScannIndex
from jaxsearch.search.tfidf_encoder import TfidfEncoder

pytest.importorskip("scann", reason="ScaNN has wheels for Linux only")


@pytest.fixture
def folder(passages, encoder, tmp_path):
    ScannIndex.build(passages, encoder).save(tmp_path / "index")
    return tmp_path / "index"


def change_manifest(folder, **fields):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(folder, message, **expected):
    with pytest.raises(ValueError, match=message) as caught:
        load_index(folder, **expected)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_what_is_written(folder, passages, encoder):
    manifest = json.loads((folder / "index.json").read_text())
    assert manifest["corpus_fingerprint"] == corpus_fingerprint(passages)
    assert manifest["encoder_fingerprint"] == encoder.fingerprint
    assert (manifest["num_passages"], manifest["dims"]) == (600, 256)
    assert manifest["scorer"] == {"name": "brute_force"}
    assert "passages.jsonl.gz" in manifest["files"]
    assert not [path for path in folder.rglob("*") if path.suffix == ".pkl"]
    # The temporary folder that the index was written to is gone.
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_a_full_folder_is_not_overwritten_an_empty_one_is_used(
    folder, passages, encoder
):
    index = ExactIndex(passages, encoder)
    with pytest.raises(ValueError, match="is not an empty folder"):
        index.save(folder)
    (folder.parent / "empty").mkdir()
    index.save(folder.parent / "empty")
    assert load_index(folder.parent / "empty").kind == "exact"


def test_a_failed_save_leaves_nothing(tmp_path, passages):
    class Unsaved(TfidfEncoder):
        def save(self, folder):
            raise ValueError("no space")

    index = ExactIndex(passages, Unsaved.fit(passages, dims=64))
    with pytest.raises(ValueError, match="no space"):
        index.save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_expected_corpus_and_encoder(folder, passages, encoder):
    same = load_index(
        folder, corpus_fingerprint=corpus_fingerprint(passages), encoder=encoder
    )
    assert same.encoder is encoder
    other = corpus_fingerprint(passages[1:])
    refused(
        folder,
        f"built for another corpus: expected {other}, found "
        f"{corpus_fingerprint(passages)}; rebuild with `jaxsearch index build",
        corpus_fingerprint=other,
    )
    refused(
        folder,
        "built with another encoder: expected tfidf .*; rebuild with",
        encoder=TfidfEncoder.fit(passages, dims=256, seed=9),
    )


@pytest.mark.parametrize(
    "name",
    [
        "passages.jsonl.gz",
        "vectors/dataset.npy",
        "vectors/scann_config.pb",
        "encoder/words.json",
    ],
)
def test_missing_and_truncated_files(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(folder, f"expected {name} to have {len(content)} bytes, found ")
    path.unlink()
    refused(folder, f"{name} is missing; rebuild with")


def test_no_folder_no_manifest(folder, tmp_path):
    refused(tmp_path / "none", "is no index: .*index.json is missing")
    (folder / "index.json").unlink()
    refused(folder, "is no index: .*index.json is missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "index.json is damaged"),
        ("[]", "expected the fields"),
        ('{"kind": "scann"}', r"expected the fields .*found \['kind'\]"),
    ],
)
def test_malformed_manifest(folder, content, message):
    (folder / "index.json").write_text(content)
    refused(folder, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format_version": 99}, "expected format 1, found 99"),
        ({"dims": "256"}, "dims must be of type int, found '256'"),
        ({"kind": "faiss"}, "expected a kind among .* found 'faiss'"),
        ({"num_passages": 599}, "expected 599 passages, found 600"),
        ({"encoder_fingerprint": "00"}, "built with another encoder"),
        ({"corpus_fingerprint": "00"}, "its passages were changed"),
    ],
)
def test_manifest_that_does_not_fit(folder, fields, message):
    change_manifest(folder, **fields)
    refused(folder, message)


class Planted:
    """Its pickle makes a file when it is opened."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def plant(path, marker):
    path.write_bytes(pickle.dumps(Planted(marker)))


def test_no_pickle_is_opened_in_an_index_folder(folder, tmp_path):
    """Not even one that the manifest lists, where ScaNN's own loader looks for it."""
    marker, planted = tmp_path / "executed", folder / "vectors" / "scann_docids.pkl"
    plant(planted, marker)
    refused(folder, "vectors/scann_docids.pkl is not listed")
    manifest = json.loads((folder / "index.json").read_text())
    name = "vectors/scann_docids.pkl"
    change_manifest(folder, files=manifest["files"] | {name: planted.stat().st_size})
    assert load_index(folder).search(["a"], 1)
    assert not marker.exists()
    pickle.loads(planted.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", ""])
def test_a_manifest_names_nothing_outside_of_its_folder(folder, name):
    (folder.parent / "outside").write_text("secret")
    files = json.loads((folder / "index.json").read_text())["files"]
    change_manifest(folder, files=files | {name: 6})
    refused(folder, "names the file .* which is not in that folder")


def test_a_link_out_of_the_folder_is_not_followed(folder):
    passages = folder / "passages.jsonl.gz"
    elsewhere = passages.rename(folder.parent / "passages.jsonl.gz")
    passages.symlink_to(elsewhere)
    refused(folder, "passages.jsonl.gz is a link to .* nothing of it was read")
    # The folder itself may be one.
    elsewhere.replace(passages)
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert load_index(link).passages


@pytest.mark.parametrize(
    "path", ["../../outside.npy", "/etc/hostname", 'x"}\nassets {asset_path: "y', ""]
)
def test_scann_reads_no_asset_of_another_folder(folder, path):
    assets = folder / "vectors" / "scann_assets.pbtxt"
    text = assets.read_text().replace("dataset.npy", path)
    assets.write_text(text)
    files = json.loads((folder / "index.json").read_text())["files"]
    change_manifest(
        folder, files=files | {"vectors/scann_assets.pbtxt": len(text.encode())}
    )
    refused(folder, "scann_assets.pbtxt")


def test_changed_passages_are_noticed(folder, passages):
    path = folder / "passages.jsonl.gz"
    write_passages([passages[1], passages[0], *passages[2:]], path)
    files = json.loads((folder / "index.json").read_text())["files"]
    change_manifest(folder, files=files | {"passages.jsonl.gz": path.stat().st_size})
    refused(folder, "its passages were changed")


def test_vectors_of_another_index(folder, passages, encoder, tmp_path):
    ScannIndex.build(passages[:500], encoder).save(tmp_path / "small")
    for path in (tmp_path / "small" / "vectors").iterdir():
        path.replace(folder / "vectors" / path.name)
    files = json.loads((folder / "index.json").read_text())["files"]
    sizes = {name: (folder / name).stat().st_size for name in files}
    change_manifest(folder, files=sizes)
    with pytest.raises(ValueError, match="got 500 vectors for 600 passages"):
        load_index(folder)


def test_exact_vectors_of_another_shape(passages, encoder, tmp_path):
    import numpy as np

    ExactIndex(passages, encoder).save(tmp_path / "i")
    path = tmp_path / "i" / "vectors" / "vectors.npy"
    np.save(path, np.load(path).reshape(300, 512))
    change_manifest(
        tmp_path / "i",
        files=json.loads((tmp_path / "i" / "index.json").read_text())["files"]
        | {"vectors/vectors.npy": path.stat().st_size},
    )
    refused(tmp_path / "i", r"expected vectors \(600, 256\), found \(300, 512\)")


def test_load_of_the_other_kind(folder):
    with pytest.raises(ValueError, match="expected one of kind 'exact', found 'scann'"):
        ExactIndex.load(folder)
