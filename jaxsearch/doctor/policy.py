"""Whether the sampler and the trainer agree on this machine's first device."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.bench.scripted_sampler import (
    random_policy,
    scripted_environment,
    scripted_questions,
    scripted_sampler,
    words_tokenizer,
)
from jaxsearch.bench.workload import Workload
from jaxsearch.doctor.check import Check
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.trajectory import Trajectory

# Two rollouts of two turns with a search between them.
_WORKLOAD = Workload(
    model={
        "model_type": "qwen2",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
    },
    dtype="float32",
    slots=2,
    num_questions=1,
    group_size=2,
    prompt_len=4,
    observation_len=4,
    temperature=1.0,
    top_p=1.0,
    retrieval_latency_s=0.0,
    turn_lens=((3, 4), (5, 2)),
)
# In nats; measured 5e-7 on a CPU.
_MAX_DIFFERENCE = 1e-3


def policy_check() -> Check:
    """Whether log-probs of rollouts equal those of one pass over the finished rows."""
    name = "sampler"
    try:
        difference = largest_difference()
    except jax.errors.JaxRuntimeError as failure:
        reason = " ".join(str(failure).split())
        return Check(
            name=name,
            status="problem",
            found=f"rollouts of a tiny policy fail: {reason:.200}",
            mend="jaxsearch train quickstart --model.decode-attention plain",
        )
    if not difference < _MAX_DIFFERENCE:
        return Check(
            name=name,
            status="problem",
            found=f"its log-probs differ from the trainer's by {difference:.1e} nats",
            mend="jaxsearch train quickstart --model.decode-attention plain",
        )
    return Check(
        name=name,
        status="ok",
        found=f"its log-probs equal the trainer's (difference {difference:.0e} nats)",
    )


def largest_difference() -> float:
    """Largest difference between log-probs of sampler and trainer, in nats."""
    replicas = replica_meshes(jax.local_devices(), 1, 1)
    # TPUs and GPUs would round products to fewer bits, differently in each program.
    with jax.default_matmul_precision("highest"), _quick_compilation():
        transformer, params = random_policy(_WORKLOAD, replicas)
        trajectories, _ = scripted_sampler(_WORKLOAD, transformer, replicas).run(
            params,
            scripted_questions(_WORKLOAD),
            scripted_environment(_WORKLOAD, words_tokenizer(64)),
            group_size=_WORKLOAD.group_size,
            stage=0,
            temperature=_WORKLOAD.temperature,
        )
        # The same key as that of `random_policy`.
        trained = jax.jit(transformer.init)(jax.random.key(0))

        @jax.jit
        def logprobs(trained, tokens, segments, is_policy):
            hidden = transformer.hidden(trained, tokens, segments)
            return policy_logprobs(
                hidden, transformer.head(trained), tokens, is_policy, jnp.float32(1.0)
            )[0]

        tokens, is_policy, sampled = _rows(trajectories)
        computed = logprobs(trained, tokens, jnp.ones_like(tokens), is_policy)
    return float(np.abs(np.asarray(computed) - sampled)[is_policy].max())


@contextlib.contextmanager
def _quick_compilation() -> Iterator[None]:
    """Context in which programs for a CPU are compiled in half the time.

    Most of this check is compiling. Unoptimized programs compute the same sums, in
    another order.
    """
    before = jax.config.values["jax_disable_most_optimizations"]
    is_cpu = jax.local_devices()[0].platform == "cpu"
    jax.config.update("jax_disable_most_optimizations", before or is_cpu)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _rows(
    trajectories: list[Trajectory],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, provenance and the sampler's log-probs, in rows of one length."""
    length = max(len(trajectory.tokens) for trajectory in trajectories)

    def rows(name: str) -> np.ndarray:
        values = [vars(trajectory)[name] for trajectory in trajectories]
        return np.stack([np.pad(v, (0, length - len(v))) for v in values])

    return rows("tokens"), rows("is_policy"), rows("logprobs")
