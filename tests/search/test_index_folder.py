"""Tests of index folders: incomplete or mismatched ones are refused in one line."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.manifest import file_record
from jaxsearch.search.passage_store import write_store
from jaxsearch.search.passages import corpus_fingerprint, write_passages
from jaxsearch.search.scann_scorer import TreeAh
from jaxsearch.search.tfidf_encoder import TfidfEncoder

pytest.importorskip("scann", reason="ScaNN has wheels for Linux only")


TREE = TreeAh(num_leaves=4, leaves_to_search=4)


@pytest.fixture(scope="session")
def built(passages, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "index"
    build_index(passages, encoder, scorer=TREE).save(folder)
    return folder


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "index")


def change_manifest(folder, **fields):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def list_again(folder, *names):
    """Lists files as they are now, as somebody who changed them would."""
    files = json.loads((folder / "index.json").read_text())["files"]
    for name in names:
        files[name] = file_record(folder / name)._asdict()
    change_manifest(folder, files=files)


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
    assert manifest["scorer"] == TREE.to_json()
    assert "passages.arrayrecord" in manifest["files"]
    assert manifest["vectors"] == ["vectors/00000.npy"]
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
        "passages.arrayrecord",
        "vectors/00000.npy",
        "scann/scann_config.pb",
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
        ({"format_version": 99}, "expected format 2, found 99"),
        ({"dims": "256"}, "dims must be of type int, found '256'"),
        ({"kind": "faiss"}, "expected a kind among .* found 'faiss'"),
        ({"num_passages": 599}, "expected 599 passages, found 600"),
        ({"encoder_fingerprint": "00"}, "built with another encoder"),
        ({"vectors": ["x.npy"]}, "the vectors 'x.npy' are not one of its files"),
        ({"vectors": []}, "has no vectors"),
        ({"corpora": [{"name": "a"}]}, "a corpus must have name"),
        ({"corpora": [{"name": "a", "num_passages": 3}]}, "expected 600 .* found 3"),
        ({"files": {"a": 7}}, "file 'a' must have bytes"),
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
    marker, planted = tmp_path / "executed", folder / "scann" / "scann_docids.pkl"
    plant(planted, marker)
    refused(folder, "scann/scann_docids.pkl is not listed")
    list_again(folder, "scann/scann_docids.pkl")
    assert load_index(folder).search(["a"], 1)
    assert not marker.exists()
    pickle.loads(planted.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", ""])
def test_a_manifest_names_nothing_outside_of_its_folder(folder, name):
    (folder.parent / "outside").write_text("secret")
    files = json.loads((folder / "index.json").read_text())["files"]
    change_manifest(folder, files=files | {name: {"bytes": 6, "sha256": ""}})
    refused(folder, "names the file .* which is not in that folder")


def test_a_link_out_of_the_folder_is_not_followed(folder):
    passages = folder / "passages.arrayrecord"
    elsewhere = passages.rename(folder.parent / passages.name)
    passages.symlink_to(elsewhere)
    refused(folder, "passages.arrayrecord is a link to .* nothing of it was read")
    # The folder itself may be one.
    elsewhere.replace(passages)
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert len(load_index(link).passages) == 600


@pytest.mark.parametrize(
    "path", ["../../outside.npy", "/etc/hostname", 'x"}\nassets {asset_path: "y', ""]
)
def test_scann_reads_no_asset_of_another_folder(folder, path):
    assets = folder / "scann" / "scann_assets.pbtxt"
    text = assets.read_text().replace("ah_codebook.pb", path)
    assets.write_text(text)
    list_again(folder, "scann/scann_assets.pbtxt")
    refused(folder, "scann_assets.pbtxt")


def test_a_changed_bit_in_a_file_of_scann_is_named(folder):
    """ScaNN itself would end the process with a segmentation fault, or search wrong."""
    for path in sorted((folder / "scann").iterdir()):
        before = path.read_bytes()
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        refused(folder, f"scann/{path.name} was changed: expected SHA-256")
        path.write_bytes(before)
    load_index(folder)


def test_changed_files_are_noticed_by_their_hashes(folder, passages):
    load_index(folder, verify=True)
    path = folder / "passages.arrayrecord"
    size = path.stat().st_size
    write_store([passages[1], passages[0], *passages[2:]], path)
    # Listed with its new size: who changes a file of the same size is not noticed.
    if path.stat().st_size == size:
        load_index(folder)
    files = json.loads((folder / "index.json").read_text())["files"]
    files[path.name]["bytes"] = path.stat().st_size
    change_manifest(folder, files=files)
    load_index(folder)
    refused(folder, "passages.arrayrecord was changed: expected SHA-256", verify=True)


def test_damaged_passages_are_one_clear_line(folder):
    path = folder / "passages.arrayrecord"
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 200))
    with pytest.raises(ValueError, match="passages.arrayrecord is damaged"):
        list(load_index(folder).passages)
    path.write_bytes(content[:2000])
    list_again(folder, path.name)
    refused(folder, "passages.arrayrecord is damaged .*cut off")


def test_vectors_of_another_index(folder, passages, encoder, tmp_path):
    build_index(passages[:500], encoder, scorer=TREE).save(tmp_path / "small")
    names = []
    for part in ("vectors", "scann"):
        for path in (tmp_path / "small" / part).iterdir():
            path.replace(folder / part / path.name)
            names.append(f"{part}/{path.name}")
    list_again(folder, *names)
    refused(folder, r"expected vectors \(600, 256\), found \(500, 256\)")


def test_a_tree_of_another_index(folder, passages, encoder, tmp_path):
    build_index(passages[:500], encoder, scorer=TREE).save(tmp_path / "small")
    for path in (tmp_path / "small" / "scann").iterdir():
        path.replace(folder / "scann" / path.name)
        list_again(folder, f"scann/{path.name}")
    with pytest.raises(ValueError, match="got 500 vectors for 600 passages"):
        load_index(folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((300, 512), np.float32), r"\(600, 256\), found \(300, 512\)"),
        (np.zeros((600, 256), np.int32), "expected rows of float16 or float32"),
        (np.zeros((256, 600), np.float32).T, "expected rows one after another"),
        (np.array([print]), "00000.npy is damaged"),
    ],
)
def test_vectors_of_another_shape_or_type(folder, array, message):
    np.save(folder / "vectors" / "00000.npy", array, allow_pickle=True)
    list_again(folder, "vectors/00000.npy")
    refused(folder, message)


def old_folder(folder, passages, encoder, kind):
    """A folder as an earlier version wrote it."""
    (folder / "vectors").mkdir(parents=True)
    write_passages(passages, folder / "passages.jsonl.gz")
    encoder.save(folder / "encoder")
    name = {"exact": "vectors.npy", "scann": "dataset.npy"}[kind]
    np.save(folder / "vectors" / name, encoder.encode_passages(passages))
    (folder / "vectors" / "scann_config.pb").write_bytes(b"")
    manifest = {
        "format_version": 1,
        "kind": kind,
        "num_passages": len(passages),
        "dims": encoder.dims,
        "corpus_fingerprint": corpus_fingerprint(passages),
        "encoder_name": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "scorer": {"name": {"exact": "exact", "scann": "brute_force"}[kind]},
        "jaxsearch_version": "0.1.0",
        "files": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file()
        },
    }
    (folder / "index.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_folder_of_an_earlier_version_opens(
    tmp_path, passages, encoder, queries, kind
):
    folder = old_folder(tmp_path / "old", passages, encoder, kind)
    found = load_index(folder, corpus_fingerprint=corpus_fingerprint(passages))
    assert found.search(queries, 5) == ExactIndex(passages, encoder).search(queries, 5)
    refused(folder, "earlier version, which wrote no hashes", verify=True)
    (folder / "vectors" / "scann_docids.pkl").write_bytes(b"")
    refused(folder, "scann_docids.pkl is not listed")
    (folder / "vectors" / "scann_docids.pkl").unlink()
    write_passages([passages[1], passages[0], *passages[2:]], tmp_path / "p.jsonl.gz")
    (tmp_path / "p.jsonl.gz").replace(folder / "passages.jsonl.gz")
    files = json.loads((folder / "index.json").read_text())["files"]
    size = (folder / "passages.jsonl.gz").stat().st_size
    change_manifest(folder, files=files | {"passages.jsonl.gz": size})
    refused(folder, "its passages were changed")
