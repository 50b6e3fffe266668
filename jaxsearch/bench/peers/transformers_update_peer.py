"""Peer: one update with transformers and PyTorch; runs in a separate Python.

Weights, rows, loss, clipping and AdamW are the same as ours. The model returns logits
for every position. Rows are sorted by length and padded on the right, where causal
attention needs no mask.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

_ROWS_AT_ONCE = 8  # the fastest of 2, 4, 8 and 16 on two CPU cores


def rows_of(folder):
    """Returns the tensors of each row, the shortest row first."""
    arrays = dict(np.load(folder / "rows.npz"))
    ends = np.cumsum(arrays["lengths"])[:-1]
    columns = [
        [torch.from_numpy(part) for part in np.split(arrays[name], ends)]
        for name in ("tokens", "loss_mask", "behavior_logprobs")
    ]
    rows = list(zip(*columns, arrays["advantages"].tolist(), strict=True))
    return sorted(rows, key=lambda row: len(row[0]))


def peak_bytes():
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def main(folder):
    settings = json.loads((folder / "update.json").read_text())
    rows = rows_of(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings["learning_rate"],
        betas=(settings["beta1"], settings["beta2"]),
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    dtype = getattr(torch, settings["dtype"])
    num_policy = sum(int(row[1].sum()) for row in rows)

    def padded(tensors):
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(device)

    def loss_of(batch):
        """Clipped policy loss, summed over policy tokens and divided once."""
        tokens, loss_mask, old = (padded([row[i] for row in batch]) for i in range(3))
        advantages = torch.tensor([[row[3]] for row in batch], device=device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            logits = model(tokens.long(), use_cache=False).logits[:, :-1]
        logprobs = -torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1) / settings["temperature"],
            tokens[:, 1:].long().flatten(),
            reduction="none",
        ).view(tokens[:, 1:].shape)
        ratio = torch.exp(logprobs - old[:, 1:])
        low, high = 1 - settings["clip_low"], 1 + settings["clip_high"]
        losses = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
        return (losses * loss_mask[:, 1:]).sum() / num_policy

    def update():
        total = 0.0
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            loss = loss_of(rows[first : first + _ROWS_AT_ONCE])
            loss.backward()
            total += loss.item()
        bound = settings["max_grad_norm"]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), bound)
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": total, "grad_norm": norm.item()}

    print(json.dumps({"peer": "transformers"}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        found = update()
        found["seconds"] = time.perf_counter() - started
        found["tokens"] = sum(len(row[0]) for row in rows)
        found["peak_bytes"] = peak_bytes()
        print(json.dumps(found), flush=True)


main(Path(sys.argv[1]))
