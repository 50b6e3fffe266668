"""Log-probs after zero, one and many observations equal those of the trainer."""

import hashlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.bench.scripted_sampler import (
    ScriptedProtocol,
    counting_table,
    words_tokenizer,
)
from jaxsearch.data.question import Question
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from tests.environments import search_environment
from tests.segments import whole_rows

ARCHITECTURE = Architecture(
    vocab_size=48,
    width=32,
    mlp_width=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    has_tied_head=False,
)
LIMITS = Budgets(
    num_slots=5,
    max_len=640,  # more than the longest rollout: nine turns, eight observations
    max_prompt_len=6,
    max_turn_len=7,
    max_observation_len=64,
    max_calls=8,
)
GROUP_SIZE = 3
TEMPERATURE = 0.8


def word_count(text, longest):
    """A number from 1 to `longest` that depends only on the text."""
    return 1 + hashlib.sha256(text.encode()).digest()[0] % longest


class RaggedIndex:
    """Returns passages of 1 to 64 words, of different lengths in one append."""

    def search(self, queries, k):
        return [[Hit(passage=self.passage(query), score=1.0)] for query in queries]

    def passage(self, query):
        digest = hashlib.sha256(query.encode()).digest()
        words = (f"w{digest[i % 32] % 40}" for i in range(word_count(query, 64)))
        return Passage(id=query, contents="title\n" + " ".join(words))


def turn_states(num_observations):
    """Ends the turns of rollout i so that it gets num_observations[i % ...].

    A turn has 1 to 7 tokens. The last one uses up its budget, which ends the rollout.
    """
    longest = LIMITS.max_turn_len

    def turn_state(rollout):
        number = rollout.prompt.index * GROUP_SIZE + rollout.sample_index
        if rollout.turn == num_observations[number % len(num_observations)]:
            return 0  # further from the stop than the longest turn
        return longest + 1 - word_count(f"{number} {rollout.turn}", longest)

    return turn_state


@pytest.fixture(scope="module")
def kit(request):
    """Rollouts by one policy with random weights, and its log-probs in training."""
    transformer = Transformer(architecture=ARCHITECTURE, dtype=jnp.dtype(request.param))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 2, x.dtype),
        transformer.shapes,
    )
    served = jax.jit(transformer.for_rollouts)(params)
    tokenizer, protocol = words_tokenizer(ARCHITECTURE.vocab_size), ScriptedProtocol()
    longest = LIMITS.max_turn_len
    programs = Programs(
        transformer=transformer,
        end_ids=(-1,),
        max_turn_len=longest,
        truncation=TopKTopP(),
        seed=3,
    )
    table = counting_table(longest + 1, ARCHITECTURE.vocab_size)
    environment = search_environment(
        RaggedIndex(),
        protocol,
        tokenizer,
        max_observation_len=LIMITS.max_observation_len,
    )
    questions = [
        (i, Question(id=str(i), question=f" w{i}" * (1 + i), golden_answers=()))
        for i in range(6)
    ]

    def roll_out(num_observations):
        """Eighteen rollouts through five slots."""
        turn_state = turn_states(num_observations)
        sampler = Sampler(
            programs, LIMITS, protocol, tokenizer, table, turn_state=turn_state
        )
        done, _ = sampler.run(
            served,
            questions,
            environment,
            group_size=GROUP_SIZE,
            stage=0,
            temperature=TEMPERATURE,
        )
        return done

    @jax.jit
    def forward(params, tokens, segments, is_policy):
        hidden = transformer.hidden(params, tokens, segments)
        head, temperature = transformer.head(params), jnp.float32(TEMPERATURE)
        return policy_logprobs(hidden, head, tokens, is_policy, temperature)[0]

    def trainer_logprobs(trajectories):
        """Log-probs as an update computes them: whole rows, head at policy tokens."""
        tokens = np.zeros((len(trajectories), LIMITS.max_len), np.int32)
        is_policy = np.zeros(tokens.shape, bool)
        lengths = [len(t.tokens) for t in trajectories]
        for i, trajectory in enumerate(trajectories):
            tokens[i, : lengths[i]] = trajectory.tokens
            is_policy[i, : lengths[i]] = trajectory.is_policy
        segments = whole_rows(lengths, LIMITS.max_len)
        return np.asarray(forward(params, tokens, segments, is_policy))[is_policy]

    # In bfloat16 a logit of 8 is rounded to 1/32 in both passes. Log-probs have a
    # spread of 1.3, so a wrong context would still be visible.
    most, mean = {"float32": (5e-5, 5e-6), "bfloat16": (0.3, 0.03)}[request.param]
    return SimpleNamespace(
        roll_out=roll_out, trainer_logprobs=trainer_logprobs, most=most, mean=mean
    )


MIXED = [8, 0, 3, 1, 0]
CASES = [("float32", counts) for counts in ([0], [1], [3], [8], MIXED)]
CASES += [pytest.param("bfloat16", MIXED, marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize(("kit", "num_observations"), CASES, indirect=["kit"])
def test_sampled_logprobs_are_the_trainers(kit, num_observations):
    done = kit.roll_out(num_observations)
    observed = [[s for s in t.segments if not s.is_policy] for t in done]
    for i, trajectory in enumerate(done):
        expected = num_observations[i % len(num_observations)]
        assert len(observed[i]) == len(trajectory.tool_calls) == expected
    # Rows of different lengths in the same slots, and appends of different lengths.
    assert len({len(t.tokens) for t in done}) > 5
    if any(num_observations):
        lens = [len(s.text.split()) for segments in observed for s in segments]
        assert min(lens) < 16 and max(lens) > 48
    sampled = np.concatenate([t.logprobs[t.is_policy] for t in done])
    difference = np.abs(sampled - kit.trainer_logprobs(done))
    assert difference.max() < kit.most and difference.mean() < kit.mean
