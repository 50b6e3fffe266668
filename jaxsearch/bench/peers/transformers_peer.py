"""Peer: transformers' `generate` on a rollout workload; runs in a separate Python.

Rows are padded on the left, and every turn prefills its whole history again.
"""

import json
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from turns import serve


def main(path):
    workload = json.load(open(path))
    config = AutoConfig.for_model(**workload["model"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config, dtype=getattr(torch, workload["dtype"])
    )
    if torch.cuda.is_available():
        model = model.cuda()
    model.eval()

    @torch.inference_mode()
    def generate(rows, num_tokens):
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        )
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=True,
            temperature=workload["temperature"],
            top_p=workload["top_p"],
            top_k=0,
            eos_token_id=None,
            pad_token_id=0,
        )
        return out[:, longest:].tolist()

    serve("transformers", generate, workload)


main(sys.argv[1])
