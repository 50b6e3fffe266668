"""Peer: google-tunix's sampler on a rollout workload; runs in a separate Python.

Rows are padded on the left, and every turn prefills its whole history again.
"""

import json
import sys

import jax
import jax.numpy as jnp
from flax import nnx
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.generate.tokenizer_adapter import TokenizerAdapter
from tunix.models.qwen2.model import ModelConfig, Qwen2
from turns import longest_history, serve

_NO_ID = -1  # never sampled, so that turns have their scripted lengths


class Ids:
    """A tokenizer whose text is the ids themselves; id 0 is padding."""

    def encode(self, text, **kwargs):
        return [int(word) for word in text.split()]

    def decode(self, ids, **kwargs):
        return " ".join(str(i) for i in ids)

    def bos_id(self):
        return None

    def eos_id(self):
        return _NO_ID

    def pad_id(self):
        return 0


def main(path):
    workload = json.load(open(path))
    sizes = workload["model"]
    config = ModelConfig(
        num_layers=sizes["num_hidden_layers"],
        vocab_size=sizes["vocab_size"],
        embed_dim=sizes["hidden_size"],
        hidden_dim=sizes["intermediate_size"],
        num_heads=sizes["num_attention_heads"],
        head_dim=sizes["head_dim"],
        num_kv_heads=sizes["num_key_value_heads"],
        rope_theta=int(sizes["rope_theta"]),
        norm_eps=sizes["rms_norm_eps"],
        use_tied_embedding=sizes["tie_word_embeddings"],
        dtype=jnp.dtype(workload["dtype"]),
        param_dtype=jnp.dtype(workload["dtype"]),
    )
    longest_turn = max(map(max, workload["turn_lens"]))
    num_turns = len(workload["turn_lens"][0])
    histories = [longest_history(workload, turn) for turn in range(num_turns)]
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"))
    with mesh:
        model = Qwen2(config, rngs=nnx.Rngs(0))
        sampler = Sampler(
            model,
            TokenizerAdapter(Ids()),
            CacheConfig(
                cache_size=histories[-1] + longest_turn,
                num_layers=config.num_layers,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
            ),
        )

        def generate(rows, num_tokens):
            longest = max(map(len, rows))
            out = sampler(
                [" ".join(map(str, row)) for row in rows],
                max_generation_steps=num_tokens,
                # One shape per turn, because its lengths differ little between batches.
                max_prompt_length=min(n for n in histories if n >= longest),
                temperature=workload["temperature"],
                top_p=workload["top_p"],
                eos_tokens=[_NO_ID],
                seed=0,
            )
            return [list(map(int, ids)) for ids in out.tokens]

        serve("tunix", generate, workload)


main(sys.argv[1])
