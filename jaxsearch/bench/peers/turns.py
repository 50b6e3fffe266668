"""A workload as a sampler without search sees it: whole histories, turn by turn.

Runs in the Python of a peer, so it imports nothing but NumPy.
"""

import json
import sys
import time

import numpy as np


def serve(name, generate, workload):
    """Says that it is ready, then runs the workload once for every line it is sent.

    `generate(rows, num_tokens)` samples num_tokens ids after each row of ids; all
    rows of a batch go on together. Each run prints one JSON line.
    """
    print(json.dumps({"peer": name}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        policy_tokens = run(generate, workload)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": policy_tokens}), flush=True)


def run(generate, workload):
    """Every rollout, in batches of `slots`; a turn lasts until its slowest row."""
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
    """Tokens of the longest history that this turn, counted from 0, starts from."""
    sampled = max(sum(turns[:turn]) for turns in workload["turn_lens"])
    return workload["prompt_len"] + turn * workload["observation_len"] + sampled
