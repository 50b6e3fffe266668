"""Tests of builds in a folder: stopped and continued, in parts, and bad input."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.search import build_memory
from jaxsearch.search.build import build_index_folder
from jaxsearch.search.build_memory import tree_plan
from jaxsearch.search.build_settings import BuildSettings, Progress
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import load_index
from jaxsearch.search.join import join_parts
from jaxsearch.search.parts import Part, shard_ranges
from jaxsearch.search.passages import corpus_fingerprint, write_passages
from tests.search.killing_encoder import ENDS_AT, KILLING
from tests.search.letter_encoder import LetterEncoder

SETTINGS = BuildSettings(shard_rows=64)  # 10 shards of 600 passages
ROOT = Path(__file__).resolve().parents[2]
KILLED = "tests.search.killing_encoder:KILLING"


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "index"
    build_index_folder(corpus=corpus, encoder=KILLING, out=out, settings=SETTINGS)
    return out


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def build_killed(corpus, out, passage):
    """Runs the command until its encoder meets a passage."""
    words = ["index", "build", "--corpus", corpus, "--out", out, "--encoder", KILLED]
    done = subprocess.run(
        [sys.executable, "-m", "jaxsearch", *map(str, words), "--shard-rows", "64"],
        env={**os.environ, ENDS_AT: passage},
        cwd=ROOT,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_killed_build_goes_on_and_gives_the_same_bytes(
    corpus, undisturbed, tmp_path, passages, queries
):
    out = tmp_path / "index"
    # Passage 400 is in the seventh shard.
    build_killed(corpus, out, "p400")
    with pytest.raises(ValueError, match="whose build was stopped; the command that"):
        load_index(out)
    # What a write leaves that is killed too.
    (out / "vectors" / ".00006.npy").write_bytes(b"half")
    before = (out / "vectors" / "00005.npy").stat().st_mtime_ns
    notes = []
    build_index_folder(
        corpus=corpus,
        encoder=KILLING,
        out=out,
        settings=SETTINGS,
        progress=Progress(note=notes.append),
    )
    assert notes == [f"{out}: continues at shard 7 of 10"]
    assert contents(out) == contents(undisturbed)
    assert (out / "vectors" / "00005.npy").stat().st_mtime_ns == before
    index = load_index(out, encoder=KILLING, verify=True)
    exact = ExactIndex(passages, LetterEncoder())
    found, expected = index.search(queries, 5), exact.search(queries, 5)
    for hits, others in zip(found, expected, strict=True):
        # Stored as float16.
        assert abs(hits[0].score - others[0].score) < 1e-3
    assert [p.id for p in index.passages] == [p.id for p in passages]


def test_a_build_goes_on_only_as_it_began(corpus, tmp_path, passages):
    out = tmp_path / "index"
    build_killed(corpus, out, "p400")
    with pytest.raises(ValueError, match="was begun with encoder .*, now it is .*"):
        build_index_folder(
            corpus=corpus, encoder=LetterEncoder(), out=out, settings=SETTINGS
        )
    with pytest.raises(ValueError, match="was begun with shard_rows 64"):
        build_index_folder(corpus=corpus, encoder=KILLING, out=out)
    other = tmp_path / "other.jsonl"
    write_passages(passages[1:], other)
    with pytest.raises(ValueError, match="was begun with corpus"):
        build_index_folder(corpus=other, encoder=KILLING, out=out, settings=SETTINGS)


def test_two_builds_into_one_folder(corpus, tmp_path):
    class Second(LetterEncoder):
        def encode_passages(self, passages):
            with pytest.raises(ValueError, match="another process builds an index in"):
                build_index_folder(
                    corpus=corpus, encoder=self, out=tmp_path / "i", settings=SETTINGS
                )
            return super().encode_passages(passages)

    build_index_folder(
        corpus=corpus, encoder=Second(), out=tmp_path / "i", settings=SETTINGS
    )
    assert len(load_index(tmp_path / "i", encoder=LetterEncoder()).passages) == 600


def test_parts_join_to_the_same_index(corpus, undisturbed, tmp_path, queries):
    folders = []
    for number in (2, 3, 1):
        folders.append(tmp_path / f"part{number}")
        settings = BuildSettings(shard_rows=64, part=Part(number, 3))
        found = build_index_folder(
            corpus=corpus, encoder=KILLING, out=folders[-1], settings=settings
        )
        assert found["part"] == f"{number}/3"
    with pytest.raises(ValueError, match="expected a kind among .* found 'part'"):
        load_index(folders[0], encoder=KILLING)
    out = tmp_path / "index"
    join_parts(folders, out=out, encoder=KILLING)
    assert contents(out) == contents(undisturbed)
    for chosen, message in (
        (folders[:2], r"expected the parts 1 to 3, got \[2, 3\]"),
        ([*folders, folders[0]], "is part 2, which is there twice"),
        ([*folders, undisturbed], "expected a part, built with --part"),
    ):
        with pytest.raises(ValueError, match=message):
            join_parts(chosen, out=tmp_path / "other", encoder=KILLING)


def test_shards_of_parts_are_those_of_the_whole():
    whole = shard_ranges(21_000_000, None, Part(1, 1))
    assert len(whole) <= 256
    parts = [shard_ranges(21_000_000, None, Part(n, 8)) for n in range(1, 9)]
    assert {k: v for part in parts for k, v in part.items()} == whole
    assert sum(len(rows) for rows in whole.values()) == 21_000_000
    with pytest.raises(ValueError, match="1 shards of 2,048, which is too few for 2"):
        shard_ranges(600, None, Part(1, 2))
    for text in ("0/3", "4/3", "3", "a/b", "1/9999"):
        with pytest.raises(ValueError, match="must be written like 3/8"):
            Part.parse(text)


def test_several_corpora_and_each_hit_says_which(passages, tmp_path, capsys):
    write_passages(passages[:200], tmp_path / "one.jsonl")
    (tmp_path / "shards").mkdir()
    for number, start in ((10, 500), (9, 200)):
        path = tmp_path / "shards" / f"part-{number}.jsonl.gz"
        write_passages(passages[start : start + (100 if number == 10 else 300)], path)
    out = str(tmp_path / "index")
    corpora = [str(tmp_path / "one.jsonl"), str(tmp_path / "shards")]
    words = ["index", "build", "--corpus", *corpora, "--dims", "64", "--out", out]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["corpus_fingerprint"] == corpus_fingerprint(passages)
    assert summary["peak_anonymous_bytes"] > 0
    index = load_index(out)
    for position, name in ((0, "one.jsonl"), (199, "one.jsonl"), (200, "shards")):
        [[hit]] = index.search([passages[position].contents], 1)
        assert (hit.passage, hit.corpus) == (passages[position], name)
    assert main(["index", "search", out, passages[300].title, "-k", "1"]) == 0
    assert "(shards, id p300, " in capsys.readouterr().out


def test_ids_are_unique_across_files(passages, tmp_path):
    for name in ("one.jsonl", "two.jsonl"):
        write_passages(passages[:20], tmp_path / name)
    write_passages(passages[19:40], tmp_path / "two.jsonl")
    corpora = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    with pytest.raises(
        ValueError,
        match="two.jsonl, line 1: id 'p19' was already used in .*one.jsonl, line 20;",
    ):
        build_index_folder(corpus=corpora, encoder="tfidf", out=tmp_path / "i")
    assert not (tmp_path / "i").exists()
    notes = []
    found = build_index_folder(
        corpus=corpora,
        encoder="tfidf",
        out=tmp_path / "i",
        settings=BuildSettings(skip_bad_rows=True, dims=64),
        progress=Progress(note=notes.append),
    )
    assert found["num_passages"] == 40 and "1 of 21 rows are bad" in notes[0]
    assert found["corpus_fingerprint"] == corpus_fingerprint(passages[:40])
    [[hit]] = load_index(tmp_path / "i").search([passages[20].contents], 1)
    assert (hit.passage, hit.corpus) == (passages[20], "two.jsonl")


@pytest.mark.slow
def test_a_file_that_cannot_grow_keeps_whole_shards(corpus, tmp_path, undisturbed):
    """A limit of the file size stands for a full disk: both end a write."""
    program = (
        "import resource, sys; from jaxsearch.commands.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "index"
    words = ["index", "build", "--corpus", str(corpus), "--encoder", KILLED]
    words += ["--out", str(out), "--shard-rows", "64"]
    build_killed(corpus, out, "p400")
    full = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert full.returncode == 2, full.stderr
    [line] = [one for one in full.stderr.splitlines() if "kept" in one]
    assert (
        "what is complete is kept: make room, then the same command continues" in line
    )
    assert main(words) == 0
    assert contents(out) == contents(undisturbed)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3000


def test_the_limit_of_memory(monkeypatch):
    # That of the process of the tests is another one each time.
    monkeypatch.setattr(build_memory, "memory_use", lambda: None)
    free = tree_plan(2_000_000, 768)
    assert (free.num_leaves, free.num_sampled) == (1414, 180_992)
    assert free.peak_bytes < 5e9
    tight = tree_plan(2_000_000, 768, int(2.2e9))
    assert tight.num_leaves < 1414 and tight.peak_bytes <= 2.2e9
    assert tight.num_sampled == 128 * tight.num_leaves
    with pytest.raises(ValueError, match=r"about \d[\d,]+ vectors would fit"):
        tree_plan(21_000_000, 768, 4_000_000_000)


def test_memory_is_refused_before_any_work(tmp_path, corpus):
    vectors = tmp_path / "v.npy"
    np.lib.format.open_memmap(vectors, "w+", np.float16, (10_000_000, 768))
    words = ["index", "build", "--corpus", str(corpus), "--vectors", str(vectors)]
    words += ["--encoder", "none", "--out", str(tmp_path / "i")]
    assert main([*words, "--max-memory", "2GB"]) == 2
    assert not (tmp_path / "i").exists()
    with pytest.raises(SystemExit):
        main([*words, "--max-memory", "much"])
