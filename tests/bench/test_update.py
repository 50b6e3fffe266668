"""Tests of `bench update`: one update on a workload's finished rollouts."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from jaxsearch.bench import update_roofline
from jaxsearch.bench.synthetic_update import SyntheticUpdate, finished_rows
from jaxsearch.bench.update import bench_update
from jaxsearch.bench.workload import read_workload
from jaxsearch.commands.main import main
from tests.bench.test_rollout import TINY

# prompt 6, observation 5: rows of 18 to 41 tokens
LENGTHS = [16 + sum(turns) for turns in TINY["turn_lens"]]


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "workload.json"
        path.write_text(json.dumps(TINY | changes))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    monkeypatch.setattr(update_roofline, "_TOKENS", 64)
    monkeypatch.setattr(update_roofline, "_PEAK_SIZE", 64)


def test_rows_are_those_that_the_script_leaves_behind(write):
    workload = read_workload(write())
    rows = finished_rows(workload)
    assert [len(row.tokens) for row in rows] == workload.row_lens == LENGTHS
    for row, (first, second, third) in zip(rows, TINY["turn_lens"], strict=True):
        authors = "p" * 6 + "s" * first + "o" * 5 + "s" * second + "o" * 5 + "s" * third
        assert row.loss_mask.tolist() == [author == "s" for author in authors]
    assert len({row.advantages for row in rows}) == len(rows)


def test_flops_are_those_of_the_architecture(monkeypatch, write):
    monkeypatch.setattr(update_roofline, "median_seconds", lambda *_: 1.0)
    work = update_roofline.phases(read_workload(write()))
    # Six FLOPs per weight and token: two forward and four backward.
    weights = 2 * (32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 32 * 48)
    assert work["blocks"].flops == 6 * weights * sum(LENGTHS)
    assert work["head"].flops == 6 * 32 * 64 * 85
    # Two products of 2 x 32 FLOPs per pair in two layers, times three with backward.
    num_pairs = sum(n * (n + 1) / 2 for n in LENGTHS)
    assert work["attention"].flops == 3 * 2 * 2 * 32 * 2 * num_pairs


@pytest.mark.slow
def test_the_summary_says_what_was_done(write):
    result = bench_update(write(), max_tokens=96, repeats=2, peers={})
    assert result["tokens"] == sum(LENGTHS)
    assert result["workload"] == {"rollouts": 6, "longest": 41, "policy_tokens": 85}
    assert result["tokens_per_s"] == result["tokens"] / result["seconds"]
    assert len(result["runs"]) == 2 and result["recompilations"] == 0
    assert set(result["limit"]) == {"blocks", "attention", "head"}
    # The fractions depend on the machine: products this small are mostly noise.
    limit_seconds = sum(phase["seconds"] for phase in result["limit"].values())
    assert result["limit_fraction"] == pytest.approx(limit_seconds / result["seconds"])
    assert result["model_flops_utilization"] > 0
    assert 0 < result["padding_share"] < 0.9
    assert result["peak_bytes"] > 0 and result["grad_norm"] > 0
    assert json.loads(json.dumps(result)) == result


@pytest.mark.slow
def test_a_peer_gets_the_same_policy_and_rows(write, tmp_path, monkeypatch):
    """Tests the exchange with a peer process that computes nothing."""
    scripts = tmp_path / "peers"
    scripts.mkdir()
    (scripts / "transformers_update_peer.py").write_text(
        "import json, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "rows = np.load(folder / 'rows.npz')\n"
        f"assert rows['lengths'].tolist() == {LENGTHS}\n"
        "assert rows['loss_mask'].sum() == 85\n"
        "settings = json.loads((folder / 'update.json').read_text())\n"
        "assert settings['clip_low'] == 0.2 and settings['dtype'] == 'float32'\n"
        "assert (folder / 'model.safetensors').is_file()\n"
        "print('{}', flush=True)\n"
        "for _ in sys.stdin:\n"
        "    print(json.dumps({'seconds': 2.5, 'tokens': len(rows['tokens']), "
        "'peak_bytes': 7, 'loss': 0.5, 'grad_norm': 3.0}), flush=True)\n"
    )
    monkeypatch.setattr("jaxsearch.bench.peer._SCRIPTS", scripts)
    peers = {"transformers": sys.executable}
    result = bench_update(write(), max_tokens=96, repeats=2, peers=peers)
    peer = result["transformers"]
    assert (peer["seconds"], peer["runs"]) == (2.5, [2.5, 2.5])
    assert peer["tokens_per_s"] == sum(LENGTHS) / 2.5
    assert peer["times_slower"] == 2.5 / result["seconds"]
    assert peer["times_the_memory"] == 7 / result["peak_bytes"]
    assert (peer["loss"], peer["grad_norm"]) == (0.5, 3.0)


@pytest.mark.slow
def test_pytorch_finds_the_same_loss_and_gradient(write):
    """Compares the update before Adam with PyTorch's, which uses full logits."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("needs PyTorch (extra: parity)")
    peers = {"transformers": sys.executable}
    result = bench_update(write(), max_tokens=96, repeats=1, peers=peers)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(
            result["transformers"][name], result[name], rtol=1e-4, err_msg=name
        )
    assert abs(result["loss"]) > 1e-3


def test_bad_usage_is_one_line_and_exit_2(write, capsys):
    python = ["--peer-python", sys.executable]
    for words, message in (
        (["--workload", "nope"], "neither a file nor one of: eight_searches"),
        (["--workload", write(), "--repeats", "0"], "must be at least 1, got 0"),
        (["--workload", write(), "--max-tokens", "0"], "must be at least 1, got 5"),
        (["--workload", write(), "--peer", "transformers"], "one --peer-python for"),
        (["--workload", write(), "--peer", "tunix", *python], "unknown peer 'tunix'"),
    ):
        assert main(["bench", "update", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.strip().count("\n") == 0


def test_microbatches_have_the_shapes_of_a_run(write):
    update = SyntheticUpdate(read_workload(write()), 96)
    shapes = {batch.tokens.shape for batch in update.batches}
    assert shapes == {(3, 30), (2, 41)}
