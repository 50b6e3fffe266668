"""Readers of folders: indexes, encoders, models, runs and selections."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp
from safetensors.numpy import save_file

from jaxsearch import json_lines
from jaxsearch.commands.main import main
from jaxsearch.evaluation.before_after import before_and_after
from jaxsearch.evaluation.heldout import summary
from jaxsearch.evaluation.tries import _recorded
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.models.tensor_files import open_tensors, read_part
from jaxsearch.monitor.rollout_log import rollout_path, write_rollouts
from jaxsearch.monitor.writers import cut_back, read_evaluations
from jaxsearch.report.write_report import write_report
from jaxsearch.rl.batching import BATCH_DTYPES, TrainBatch, padded
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.checkpoint_damage import damage
from jaxsearch.run.checkpoint_hashes import HASHES, write_hashes
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import resolved
from jaxsearch.run.early_stopping import plateau
from jaxsearch.run.folder import (
    check_frozen,
    check_identity,
    read_run_config,
    with_prompt_date,
)
from jaxsearch.run.folder_lock import LOCK, check_unlocked
from jaxsearch.run.non_finite import PARAMETERS, _write, read_update
from jaxsearch.run.policy import read_architecture
from jaxsearch.run.warm_start import origin_of
from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.encoder_settings import read_settings
from jaxsearch.search.encoders import NO_OPTIONS, load_encoder
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import Passage, write_passages
from jaxsearch.search.scann_scorer import TreeAh
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory
from jaxsearch.try_again import TryAgainError
from tests.faults.reader_files import Reader, write_json, write_lines
from tests.search.bert_folder import write_folder


def index_readers(root: Path) -> dict[str, Reader]:
    passages = [Passage(id=str(n), contents=f"title {n}\nword{n}") for n in range(20)]
    encoder = TfidfEncoder.fit(passages, dims=32)
    ExactIndex(passages, encoder).save(root / "exact")
    tree = TreeAh(num_leaves=2, leaves_to_search=2)
    build_index(passages, encoder, scorer=tree).save(root / "scann")
    write_passages(passages, root / "passages.jsonl")
    words = ["index", "build", "--corpus", str(root / "passages.jsonl"), "--hybrid"]
    assert main([*words, "--dims", "32", "--out", str(root / "hybrid")]) == 0

    def reader(kind: str, *patterns: str) -> Reader:
        folder = root / kind

        def read():
            for hits in load_index(folder).search(["word3", "title 1", ""], 2):
                [(hit.passage.id + hit.passage.contents).encode() for hit in hits]

        paths = [path for pattern in patterns for path in folder.rglob(pattern)]
        return Reader(read, [path for path in paths if path.is_file()])

    return {
        "index exact": reader("exact", "*.json"),
        "index exact arrays": reader("exact", "*.npy", "*.arrayrecord"),
        "index scann": reader("scann", "*.json"),
        "index scann files": reader("scann", "scann/*", "vectors/*"),
        "index hybrid": reader("hybrid", "*.json"),
        "index words": reader("hybrid", "words/*", "*.npy"),
    }


def encoder_readers(root: Path) -> dict[str, Reader]:
    write_folder(root / "bert", ["anna", "bern", "city"])
    folder, saved = root / "bert", root / "saved"
    read_bert_encoder(str(folder), NO_OPTIONS).save(saved)

    def settings():
        return read_settings(folder, NO_OPTIONS, max_positions=64, tokenizer_len=64)

    return {
        "encoder": Reader(
            lambda: read_bert_encoder(str(folder), NO_OPTIONS),
            [path for path in folder.rglob("*") if path.is_file()],
        ),
        "encoder settings": Reader(
            settings,
            [*folder.rglob("*.json")],
        ),
        "saved encoder": Reader(lambda: load_encoder(saved), sorted(saved.iterdir())),
    }


CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 300,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "layer_types": ["full_attention"],
}
LLAMA = CONFIG | {
    "model_type": "llama",
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}
GEMMA = CONFIG | {
    "model_type": "gemma3_text",
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 16,
    "rope_local_base_freq": 10000.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "layer_types": ["full_attention"],
}


def model_readers(root: Path) -> dict[str, Reader]:
    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)}
    folder = root / "model"
    folder.mkdir()
    save_file(tensors, folder / "one.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys("ab", "one.safetensors")}
    write_json(folder / "model.safetensors.index.json", index)
    readers = {}
    for config in (CONFIG, CONFIG | {"model_type": "qwen3"}, LLAMA, GEMMA):
        name = config["model_type"]
        (root / name).mkdir()
        path = write_json(root / name / "config.json", config)
        readers[f"model {name}"] = Reader(
            lambda path=path: _architecture(path.parent), [path]
        )

    def read():
        for tensor in open_tensors(folder).values():
            read_part(tensor, tensor.shape, [slice(None)] * len(tensor.shape))

    return readers | {"tensors": Reader(read, sorted(folder.iterdir()))}


def _architecture(folder: Path) -> None:
    read_architecture(str(folder))
    from_hf_config(json.loads((folder / "config.json").read_bytes()))


@dataclasses.dataclass
class Outcome:
    """A judgement."""

    reward: float = 1.0
    reason: str = "right"
    prediction: str = "Ann"
    terms: dict[str, float] = dataclasses.field(default_factory=lambda: {"answer": 1.0})


def trajectory(text: str) -> Trajectory:
    return Trajectory(
        question_id="q1",
        question="Who?",
        golden_answers=("Ann",),
        prompt_index=0,
        sample_index=1,
        tokens=np.arange(8, dtype=np.int32),
        is_policy=np.array([0, 0, 1, 1, 0, 0, 1, 1], bool),
        logprobs=np.zeros(8, np.float32),
        sampling_logprobs=np.zeros(8, np.float32),
        prompt_len=2,
        segments=(
            Segment(text=f"<think>{text}</think><search>x</search>", is_policy=True),
            Segment(text="<result>y</result>", is_policy=False),
            Segment(text="<answer>\\boxed{Ann}</answer>", is_policy=True),
        ),
        tool_calls=(ToolCall(query="x", passage_ids=("1", "2")),),
        status=Status.ANSWERED,
    )


def run_folder(folder: Path) -> Path:
    """The files of a run but for its checkpoints' arrays."""
    folder.mkdir()
    config = read_config("quickstart")
    # `named_in_folder` of the tests trusts the quickstart's modules.
    record = {**resolved(config), "identity": {}, "code": {}, "frozen": ""}
    record["origin"] = {"run": "x", "step": 3, "checkpoint": "y", "fingerprint": "z"}
    record["searched"] = {"train": {"corpus": "c"}}
    write_json(folder / "config.json", record)
    for step in range(1, 31):
        values: dict[str, Any] = {"loss": 1.0 / step, "grad_norm": 1.0}
        stage = record["stages"][0]["name"]
        if step > 10:
            stage = record["stages"][-1]["name"]
            values |= {"reward/mean": step / 50, "em": step / 60, "kl": float("nan")}
            values |= {"status/answered": 0.75, "alarm/signal": 1.0, "signal": 0.1}
            values |= {"time/rollout": 2.0, "time/search_wait": 0.5, "time/update": 1.0}
            values |= {"rollouts_dropped": 1.0, "groups_non_finite": 0.0}
        json_lines.append_line(
            folder / "metrics.jsonl", {"step": step, "stage": stage, **values}
        )
    for name, step in (("before_rl", 10), ("heldout", 20), ("after_rl", 30)):
        line = {
            "step": step,
            "stage": record["stages"][-1]["name"],
            "name": name,
            "n": 500,
            "em": 0.5,
            "searches_per_question": 1.5,
            "by_hops": {"1": {"n": 200, "em": 0.5, "searches": 1.0}},
        }
        json_lines.append_line(folder / "eval.jsonl", line)
        write_rollouts(
            folder / "rollouts" / f"{name}.jsonl.gz", [trajectory("e")], [Outcome()]
        )
    for step in (11, 30):
        write_rollouts(
            rollout_path(folder, step),
            [trajectory("a"), trajectory("b")],
            [Outcome(0.0), Outcome(1.0)],
            advantages=[0.5, [0.1, -0.1]],
        )
    prompt = {"form": "chat", "num_tokens": 3, "prompt": "Who?"}
    write_json(folder / "prompt.json", prompt)
    lock = {"host": "x", "process": 1, "started": "now", "key": "k"}
    write_json(folder / LOCK, lock)
    checkpoint = folder / "checkpoints" / "30"
    (checkpoint / "state").mkdir(parents=True)
    progress = {"step": 30, "stage": 1, "stage_step": 20, "stream": None}
    write_json(checkpoint / "_CHECKPOINT_METADATA", {"custom_metadata": progress})
    write_json(checkpoint / "state" / "_METADATA", {"tree_metadata": {}})
    write_hashes(checkpoint)
    return folder


def run_readers(root: Path) -> dict[str, Reader]:
    folder = run_folder(root / "run")
    config = dataclasses.replace(read_config("quickstart"), out=str(folder))
    checkpoint = folder / "checkpoints" / "30"

    def record():
        read_run_config(folder)
        origin_of(str(folder / "checkpoints" / "30"))

    def identity():
        with contextlib.suppress(ValueError):
            check_identity(config)
        with_prompt_date(config)
        with contextlib.suppress(ValueError):
            check_frozen(folder, "x")

    def lock():
        with contextlib.suppress(TryAgainError):
            check_unlocked(folder)

    def damaged():
        assert len(damage(checkpoint, has_progress=True)) < 3000
        choose_checkpoint(config)

    def metrics():
        kept = root / "cut.jsonl"
        shutil.copyfile(folder / "metrics.jsonl", kept)
        cut_back(kept, 20)

    def evaluations():
        summary(folder)
        before_and_after(folder)
        plateau(config, read_evaluations(folder))

    def report():
        write_report(folder)

    reported = [*folder.glob("*.json*"), *(folder / "rollouts").iterdir()]
    small = [path for path in checkpoint.rglob("*") if path.is_file()]
    return {
        "run record": Reader(record, [folder / "config.json"]),
        "run identity": Reader(identity, [folder / "config.json"]),
        "run lock": Reader(lock, [folder / LOCK]),
        "run checkpoint": Reader(lambda: damage(checkpoint, has_progress=True), small),
        "run metrics": Reader(metrics, [folder / "metrics.jsonl"]),
        "run evaluations": Reader(evaluations, [folder / "eval.jsonl"]),
        "run report": Reader(report, reported),
    }


def replay_readers(root: Path) -> dict[str, Reader]:
    """An update that was kept, with hashes that fit what was changed."""
    folder = root / "step_000004"
    parameters = folder / PARAMETERS
    ocp.save_checkpointables(parameters, {"state": {"params": {"a": np.ones(3)}}})
    write_hashes(parameters)
    batch = TrainBatch(*(np.ones((2, 3), dtype) for dtype in BATCH_DTYPES))
    record = {
        "step": 4,
        "stage": 1,
        "divisor": 12.0,
        "has_reference": True,
        "num_batches": 1,
        "metrics": {"loss": 0.5, "grad_norm": "NaN"},
    }
    _write(folder, [batch], record)

    def read():
        update = read_update(folder)
        for one in update.batches:
            padded(one, 4)
        f"{update.metrics['loss']:.4g} {update.metrics['grad_norm']:.4g}".encode()

    def hashed():
        write_hashes(parameters)
        try:
            damage(parameters, has_progress=False)
        finally:
            write_hashes(parameters)

    small = [path for path in parameters.rglob("*") if path.is_file()]
    others = [path for path in small if path.name != HASHES]
    return {
        "replay": Reader(read, [path for path in folder.iterdir() if path.is_file()]),
        "replay hashes": Reader(read, small),
        "replay parameters": Reader(hashed, others),
    }


TRY = {
    "prompt_index": 0,
    "number": 1,
    "is_right": True,
    "num_searches": 2,
    "num_failed": 0,
    "prediction": "Ann",
}


def selection_readers(root: Path) -> dict[str, Reader]:
    calls = write_lines(
        root / "calls.jsonl", [{"tries": [TRY, TRY | {"number": 2}]}] * 2
    )

    def read():
        content = calls.read_bytes()
        try:
            _recorded(calls)
        finally:
            calls.write_bytes(content)

    return {"selection calls": Reader(read, [calls])}
