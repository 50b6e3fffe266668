"""Readers of evaluations: predictions, verdicts, settings, and prepared sets."""

import json
import os
import shutil
from pathlib import Path

from jaxsearch.data.formats import read_questions
from jaxsearch.data.prepare import prepare_set
from jaxsearch.data.set_checksums import CHECKSUMS, checksums
from jaxsearch.data.set_origin import hub_addresses
from jaxsearch.data.set_summary import describe
from jaxsearch.evaluation.answer_table import read_answers
from jaxsearch.evaluation.compare import compare
from jaxsearch.evaluation.prediction_log import Key, PredictionLog
from jaxsearch.evaluation.settings import claim_evaluation
from jaxsearch.rewards.answers import normalise_research
from jaxsearch.verdicts.cache import VerdictCache
from jaxsearch.verdicts.predictions import read_predictions, verdicts_in
from jaxsearch.verdicts.record import VerdictFile
from jaxsearch.web.cache import connected
from tests.faults.reader_files import FLASHRAG, Reader, _note, write_json, write_lines

PREDICTIONS = [
    {
        "set": name,
        "id": f"2hop__{number}",
        "sample": sample,
        "question": "Who?",
        "golden_answers": ["Ann", "Anne"],
        "metadata": {"hops": 2, "type": "bridge", "supporting_titles": ["Ann"]},
        "prediction": "Ann" if number else None,
        "segments": [
            {"text": "<search>x</search>", "is_policy": True},
            {"text": '<result>\n"Ann"\nAnn is old.</result>', "is_policy": False},
        ],
        "ended": True,
        "status": "answered",
        "searches": [{"query": "x", "passage_ids": ["1"], "has_failed": False}],
        "calls": ["search"],
        "policy_len": 7,
        "reward": 1.0,
        "verdict": "correct",
        **{"em": 1.0, "f1": 1.0, "cover_em": 1.0},
    }
    for name in ("a", "b")
    for number in range(2)
    for sample in range(2)
]
SETTINGS = {
    "policy": {"checkpoint": "x", "step": 3},
    "questions": [
        {
            "name": "a",
            "source": "f.jsonl",
            "digest": "c0ffee",
            "n": 2,
            "of": 2,
            "sample_seed": None,
        }
    ],
    "temperature": 0.0,
}


def evaluation_readers(root: Path) -> dict[str, Reader]:
    folder = root / "eval"
    folder.mkdir()
    lines = write_lines(folder / "predictions.jsonl", PREDICTIONS)
    other = write_lines(root / "other.jsonl", PREDICTIONS)
    settings = write_json(folder / "settings.json", {"labels": {"m": "x"}, **SETTINGS})

    def figures():
        for answers in read_answers(lines, normalise_research).values():
            answers.table()

    def compared():
        json.dumps(compare(folder, other, num_resamples=10))

    log_folder = root / "log"
    log_folder.mkdir()
    keys = [Key(p["set"], p["id"], p["sample"]) for p in PREDICTIONS]
    logged = write_lines(log_folder / "predictions.jsonl", PREDICTIONS)

    def log():
        kept = root / "logged"
        shutil.copytree(log_folder, kept, dirs_exist_ok=True)
        opened = PredictionLog(kept)
        if opened.read(keys) == set(keys):
            opened.join(keys)

    def claimed():
        claim_evaluation(folder, SETTINGS, {"model": "x"})

    return {
        "eval figures": Reader(figures, [lines]),
        "eval compare": Reader(compared, [lines]),
        "eval log": Reader(log, [logged]),
        "eval settings": Reader(claimed, [settings]),
    }


def verdict_readers(root: Path) -> dict[str, Reader]:
    plain = write_lines(root / "predictions.jsonl", PREDICTIONS)
    packed = write_lines(root / "predictions.jsonl.gz", PREDICTIONS)
    asked = read_predictions(plain, _note)
    keys = {one.line: f"{one.line:064x}" for one in asked}
    recorded = [
        {"line": one.line, "key": keys[one.line], "verdict": verdict, "reason": "b"}
        for one, verdict in zip(asked, ["correct", None, "wrong"], strict=False)
    ]
    record = write_lines(root / "verdicts.jsonl", recorded)
    cache = VerdictCache(root / "cache")
    stored = write_json(root / "stored.json", {"k": ["correct", "b"]})

    def predictions(path: Path) -> Reader:
        def read():
            found = read_predictions(path, _note)
            verdicts_in(found, "verdict", path)
            for one in found:
                json.dumps([one.question, one.prediction]).encode()

        return Reader(read, [path])

    def verdict_file():
        content = record.read_bytes()
        try:
            VerdictFile(record, "m", asked, keys).close()
        finally:
            record.write_bytes(content)

    def cached():
        text = stored.read_text(errors="replace")
        with connected(cache.path) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO verdicts (key, verdict, reason) "
                "VALUES ('k', ?, ?)",
                (text[7:14], text.encode(errors="replace")),
            )
        cache.get(["k"])

    return {
        "verdicts predictions": predictions(plain),
        "verdicts predictions gz": predictions(packed),
        "verdicts file": Reader(verdict_file, [record]),
        "verdicts cache": Reader(cached, [stored]),
    }


def set_readers(root: Path) -> dict[str, Reader]:
    """A prepared set as it is, and with checksums that fit what was changed."""
    os.environ["JAXSEARCH_DATA"] = str(root / "sets")
    file = write_lines(root / "mine.jsonl", FLASHRAG)
    [prepared] = prepare_set("hotpotqa", str(file), split="train")
    folder = prepared.folder
    whole = (folder / CHECKSUMS).read_bytes()

    def read():
        found = read_questions("hotpotqa/train", note=_note)
        json.dumps([vars(question) for question in found]).encode()
        describe("hotpotqa/train")
        hub_addresses("hotpotqa", "train", "", replace=False)

    def replaced():
        (folder / CHECKSUMS).write_text(json.dumps(checksums(folder)))
        try:
            read()
        finally:
            (folder / CHECKSUMS).write_bytes(whole)

    others = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    records = [path for path in others if path.suffix != ".json"]
    fields = [path for path in others if path.suffix == ".json"]
    return {
        "set checksums": Reader(read, [folder / CHECKSUMS, *records]),
        "set fields": Reader(replaced, fields),
        "set records": Reader(replaced, records),
    }
