"""Tests of `bench rollout`: scripted rollouts through the real sampler."""

import json
import sys

import pytest

from jaxsearch.bench import roofline
from jaxsearch.bench.peer import Peer
from jaxsearch.bench.rollout import ScriptedRollouts, bench_rollout
from jaxsearch.bench.scripted_sampler import counting_table
from jaxsearch.bench.workload import read_workload, workload_path
from jaxsearch.commands.main import main

TINY = {
    "model": {
        "model_type": "qwen2",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 64,
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
    },
    "dtype": "float32",
    "slots": 4,
    "num_questions": 3,
    "group_size": 2,
    "prompt_len": 6,
    "observation_len": 5,
    "temperature": 1.0,
    "top_p": 1.0,
    "retrieval_latency_s": 0.0,
    "turn_lens": [[3, 1, 4], [1, 5, 9], [2, 6, 5], [3, 5, 8], [9, 7, 9], [3, 2, 3]],
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "workload.json"
        path.write_text(json.dumps(TINY | changes))
        return str(path)

    return write


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "workload.json"
    path.write_text(json.dumps(TINY))
    return ScriptedRollouts(read_workload(str(path)))


def test_every_turn_is_as_long_as_the_script_says(rollouts):
    trajectories, timing = rollouts.rollouts()
    for trajectory, turns in zip(trajectories, TINY["turn_lens"], strict=True):
        runs, length = [], 0
        for is_policy in trajectory.is_policy[trajectory.prompt_len :]:
            if is_policy:
                length += 1
            elif length:
                runs.append(length)
                length = 0
        assert [*runs, length] == turns
        assert len(trajectory.tool_calls) == 2
        assert (trajectory.logprobs[trajectory.is_policy] < 0).all()
    assert timing.num_prefilled == 3 * 6  # once per group
    assert timing.num_observed == 6 * 2 * 5
    # At least as many steps as full slots need, at most as many as one slot needs.
    assert sum(map(sum, TINY["turn_lens"])) / 4 <= timing.num_steps
    assert timing.num_steps <= sum(map(sum, TINY["turn_lens"]))


def test_the_summary_says_what_was_done(write):
    result = bench_rollout(write(), repeats=2, peers={})
    assert result["policy_tokens"] == 85
    assert result["prefill_tokens"] == 18
    assert result["recompilations"] == 0
    assert len(result["runs"]) == 2
    # The fraction itself depends on the machine: such small products are mostly noise.
    limit_seconds = sum(phase["seconds"] for phase in result["limit"].values())
    assert result["limit_fraction"] == pytest.approx(limit_seconds / result["seconds"])
    assert set(result["limit"]) == {"prefill", "append", "decode"}
    assert set(result["profile"]) == {"prefill", "fork", "decode", "append", "all"}
    spent = [result["profile"][name] for name in ("prefill", "decode", "append")]
    assert 0 < sum(spent) < result["profile"]["all"]
    slow = bench_rollout(write(), repeats=1, latency=0.2, slots=6, peers={})
    assert slow["workload"]["slots"] == 6
    # All slots wait for the same two searches, 0.2 s each.
    assert slow["seconds"] > 0.4
    assert slow["search_wait_fraction"] > 0.5


def test_replicas_share_the_rollouts(write):
    result = bench_rollout(write(slots=2), repeats=1, replicas=2, peers={})
    assert (result["replicas"], result["recompilations"]) == (2, 0)
    assert result["policy_tokens"] == 85
    assert result["observation_tokens"] == 6 * 2 * 5
    # The second of three groups is split, and both replicas prefill its prompt.
    assert result["prefill_tokens"] == 4 * 6
    assert 0 < result["slots_busy"] <= 1


def test_flops_are_those_of_the_architecture(write):
    workload = read_workload(write())
    sizes = workload.architecture
    per_token = sum(p.flops for p in roofline.block_products(sizes, 1))
    # Two FLOPs per weight of the blocks' matrices: qkv, out, gate and up, down.
    weights = 2 * (32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 32 * 48)
    assert per_token == 2 * weights
    work = roofline.phases(workload)
    assert work["decode"].calls == 85 / 4
    assert work["append"].calls == 6 * 2 / 4
    head = 2 * 32 * 64
    context = round((6 + (6 + 10 + 85 / 6)) / 2)
    attention = 2 * 4 * context * 32
    assert work["decode"].flops == pytest.approx(85 * (2 * weights + head + attention))


def test_the_table_counts_whatever_is_sampled():
    table = counting_table(4, 7)
    assert table.shape == (5, 7)
    for token in range(7):
        state = 4 - 3  # a turn of three
        for _ in range(2):
            state = table[state, token]
            assert state < 4
        assert table[state, token] == 4
    assert (table[4] == 4).all()


def test_a_peer_runs_in_its_own_process(write, tmp_path, monkeypatch):
    """Tests the exchange with a peer process that samples nothing."""
    scripts = tmp_path / "peers"
    scripts.mkdir()
    (scripts / "turns.py").write_text(
        (workload_path("long_tail").parents[1] / "peers" / "turns.py").read_text()
    )
    (scripts / "tunix_peer.py").write_text(
        "import json, sys\nfrom turns import serve\n"
        "print('a library says something')\n"
        "serve('none', lambda rows, n: [[7] * n for _ in rows], "
        "json.load(open(sys.argv[1])))\n"
    )
    monkeypatch.setattr("jaxsearch.bench.peer._SCRIPTS", scripts)
    peer = Peer("tunix", sys.executable, workload_path(write()))
    assert [peer.run().policy_tokens for _ in range(2)] == [85, 85]
    peer.close()
    (scripts / "tunix_peer.py").write_text("raise ImportError('no tunix here')")
    with pytest.raises(RuntimeError, match="tunix peer stopped.*no tunix here"):
        Peer("tunix", sys.executable, workload_path(write()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turn_lens": [[1, 2]] * 5}, "turn_lens has 5 rollouts, expected"),
        ({"turn_lens": [[1, 2]] * 5 + [[1]]}, "same number of turns"),
        ({"turn_lens": [[1, 0]] * 6}, "at least one token"),
        ({"turn_lens": "many"}, "turn_lens must be a list, got 'many'"),
        ({"slots": 0}, "slots must be a positive number, got 0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"retrieval_latency_s": -1}, "must not be negative"),
        ({"model": {"model_type": "mamba"}}, "model_type 'mamba'"),
    ],
)
def test_a_bad_workload_is_one_line_and_exit_2(write, capsys, changes, message):
    assert main(["bench", "rollout", "--workload", write(**changes)]) == 2
    error = capsys.readouterr().err
    assert message in error and "workload.json" in error
    assert error.count("\n") == 1


def test_bad_usage_is_one_line_and_exit_2(write, capsys, tmp_path):
    for words, message in (
        (["--workload", "nope"], "neither a file nor one of: eight_searches"),
        (["--workload", write(), "--repeats", "0"], "--repeats must be at least 1"),
        (["--workload", write(), "--replicas", "0"], "--replicas must be at least 1"),
        (["--workload", write(), "--replicas", "9"], "needs 9 devices"),
        (["--workload", write(), "--peer", "tunix"], "one --peer-python for each"),
        (
            ["--workload", write(), "--peer", "tunix", "--peer-python", "/no/python"],
            "is not a file",
        ),
        (
            ["--workload", write(), "--slots", "2", "--peer", "tunix"]
            + ["--peer-python", sys.executable],
            "cannot be compared",
        ),
        (
            ["--peer", "tunix", "--peer-python", "a"] * 2,
            "got --peer tunix tunix; give each engine once",
        ),
    ):
        assert main(["bench", "rollout", *words]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "cut.json").write_text('{"slots": 4')
    assert main(["bench", "rollout", "--workload", str(tmp_path / "cut.json")]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_packaged_workloads_are_sound():
    folder = workload_path("long_tail").parent
    names = sorted(path.stem for path in folder.glob("*.json"))
    assert len(names) == 7
    for name in names:
        assert read_workload(name).policy_tokens > 0
    tail, even = read_workload("long_tail"), read_workload("even_turns")
    assert tail.policy_tokens == even.policy_tokens
    assert tail.num_rollouts >= 32 * tail.slots
    totals = sorted(map(sum, tail.turn_lens))
    slowest = totals[-round(0.05 * len(totals)) :]
    assert min(slowest) > 3 * totals[len(totals) // 2]
