"""google-tunix's sampler on a workload. Run by the Python that has it.

Rows are padded on the left; every turn prefills its whole history again.
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

_NO_ID = -1  # never sampled: the script says when a turn ends


class Ids:
    """Ids as text and back; id 0 pads."""

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
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"))
    with mesh:
        model = Qwen2(config, rngs=nnx.Rngs(0))
        sampler = Sampler(
            model,
            TokenizerAdapter(Ids()),
            CacheConfig(
                cache_size=longest_history(workload) + longest_turn,
                num_layers=config.num_layers,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
            ),
        )

        def generate(rows, num_tokens):
            out = sampler(
                [" ".join(map(str, row)) for row in rows],
                max_generation_steps=num_tokens,
                # One shape a turn: lengths of a turn differ little between batches.
                max_prompt_length=_bucket(max(map(len, rows)), workload),
                temperature=workload["temperature"],
                top_p=workload["top_p"],
                eos_tokens=[_NO_ID],
                seed=0,
            )
            return [list(map(int, ids)) for ids in out.tokens]

        serve("tunix", generate, workload)


def _bucket(length, workload):
    """The longest history of the turn whose histories are that long."""
    num_turns = len(workload["turn_lens"][0])
    for turn in range(num_turns):
        sampled = max(sum(turns[:turn]) for turns in workload["turn_lens"])
        longest = workload["prompt_len"] + turn * workload["observation_len"] + sampled
        if length <= longest:
            return longest
    raise ValueError(f"a history of {length} tokens is longer than the workload's")


main(sys.argv[1])
