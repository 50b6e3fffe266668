"""Runs a rollout workload turn by turn on a sampler that takes whole histories.

This module runs in a peer's Python and imports only NumPy.
"""

import json
import sys
import time

import numpy as np


def serve(name, generate, workload):
    """Prints a line when ready, then runs the workload once per line of input.

    Each run prints one JSON line. `generate(rows, num_tokens)` samples num_tokens ids
    after each row of ids.
    """
    print(json.dumps({"peer": name}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        policy_tokens = run(generate, workload)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": policy_tokens}), flush=True)


def run(generate, workload):
    """Runs all rollouts in batches of `slots`; a turn lasts until its longest row."""
    rng = np.random.default_rng(0)
    vocab_size = workload["model"]["vocab_size"]
    group_size, slots = workload["group_size"], workload["slots"]
    prompts = [
        rng.integers(2, vocab_size, workload["prompt_len"]).tolist()
        for _ in range(workload["num_questions"])
    ]
    observation = rng.integers(2, vocab_size, workload["observation_len"]).tolist()
    policy_tokens = 0
    for first in range(0, len(workload["turn_lens"]), slots):
        scripts = workload["turn_lens"][first : first + slots]
        rows = [list(prompts[(first + i) // group_size]) for i in range(len(scripts))]
        for turn, lengths in enumerate(zip(*scripts, strict=True)):
            if turn:
                time.sleep(workload["retrieval_latency_s"])
                rows = [row + observation for row in rows]
            sampled = generate(rows, max(lengths))
            for row, ids, length in zip(rows, sampled, lengths, strict=True):
                row.extend(ids[:length])
                policy_tokens += length
    return policy_tokens


def longest_history(workload, turn):
    """Length of the longest history before this turn, counted from 0."""
    sampled = max(sum(turns[:turn]) for turns in workload["turn_lens"])
    return workload["prompt_len"] + turn * workload["observation_len"] + sampled
