"""A policy with random weights that searches often: its stop tag is in many pieces."""

import hashlib
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.question import Question
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.episode import Budgets, Sampler
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.rollouts.stop import stop_table
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from tests.environments import search_environment
from tests.protocols import changed
from tests.segments import whole_rows

WORDS = ["red", "blue", "green", "one", "two", "three"]
# The stop tag is "go": as one id, with bytes before it, with bytes after it, in two
# ids.
PIECES = ["▁go", "▁ago", "▁gone", "▁g", "o", "▁<result>", "▁</result>"]


class WordIndex:
    """Answers each query with a passage that depends only on the query."""

    def search(self, queries, k):
        return [[Hit(passage=self.passage(query), score=1.0)] for query in queries]

    def passage(self, query):
        digest = hashlib.sha256(query.encode()).digest()
        words = [WORDS[byte % len(WORDS)] for byte in digest[1 : 2 + digest[0] % 6]]
        return Passage(id=query, contents="title\n" + " ".join(words))


def random_params(transformer):
    """Random parameters that do not change when `init` changes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * x.shape[-1] ** -0.5, x.dtype),
        transformer.shapes,
    )


@pytest.fixture(scope="session")
def kit():
    """Tokenizer, protocol, network and parameters, with functions to make the rest."""
    tokenizer = pieces_tokenizer(["▁" + word for word in WORDS] + PIECES)
    protocol = changed(
        QUICKSTART, stop_tags=("go",), query=lambda turn: turn.partition("go")[0]
    )
    architecture = Architecture(
        vocab_size=16,
        width=32,
        mlp_width=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=1,
        head_width=8,
        has_tied_head=False,
    )
    transformer = Transformer(architecture=architecture)
    params = random_params(transformer)
    table = stop_table(tokenizer.id_bytes, protocol.stop_tags, architecture.vocab_size)

    def sampler(
        num_slots,
        *,
        truncation=None,
        protocol=protocol,
        end_ids=tokenizer.end_ids,
        network=transformer,
        replicas=None,
        seed=7,
        id_ranges=None,
        **budgets,
    ):
        budgets = Budgets(num_slots=num_slots, **(LIMITS | budgets))
        programs = Programs(
            transformer=network,
            end_ids=end_ids,
            max_turn_len=budgets.max_turn_len,
            truncation=truncation or TopKTopP(),
            seed=seed,
            id_ranges=id_ranges,
        )
        return Sampler(programs, budgets, protocol, tokenizer, table, replicas=replicas)

    def environment(
        retriever=None,
        *,
        protocol=protocol,
        tokenizer=tokenizer,
        max_observation_len=LIMITS["max_observation_len"],
        **changes,
    ):
        return search_environment(
            retriever or WordIndex(),
            protocol,
            tokenizer,
            max_observation_len=max_observation_len,
            **changes,
        )

    @jax.jit
    def logits(params, tokens, segments):
        hidden = transformer.hidden(params, tokens, segments)
        return jnp.einsum("BTD,VD->BTV", hidden, transformer.head(params))

    def trainer_logprobs(trajectories, temperature):
        """Log-prob of each token given those before it, by one plain forward pass."""
        tokens = np.zeros((len(trajectories), LIMITS["max_len"]), np.int32)
        for row, trajectory in zip(tokens, trajectories, strict=True):
            row[: len(trajectory.tokens)] = trajectory.tokens
        segments = whole_rows([len(t.tokens) for t in trajectories], tokens.shape[1])
        logps = jax.nn.log_softmax(logits(params, tokens, segments) / temperature)
        chosen = np.take_along_axis(logps[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
        return np.pad(chosen, ((0, 0), (1, 0)))

    return SimpleNamespace(
        tokenizer=tokenizer,
        protocol=protocol,
        transformer=transformer,
        params=jax.jit(transformer.for_rollouts)(params),
        trainer_params=params,
        table=table,
        sampler=sampler,
        environment=environment,
        trainer_logprobs=trainer_logprobs,
        word_index=WordIndex,
        tight=dict(
            truncation=TopKTopP(top_k=8), max_turn_len=5, max_len=32, max_calls=9
        ),
    )


LIMITS = dict(
    max_len=96,
    max_prompt_len=12,
    max_turn_len=24,
    max_observation_len=12,
    max_calls=4,
    page_len=16,
)


@pytest.fixture(scope="session")
def sampler(kit):
    """A sampler with sixteen slots, compiled once per session."""
    return kit.sampler(16)


@pytest.fixture(scope="session")
def tight_sampler(kit):
    """A sampler with short turns, short rows, and half of the vocabulary truncated."""
    return kit.sampler(8, **kit.tight)


@pytest.fixture(scope="session")
def questions():
    """Ten questions of different lengths, from the middle of a stream."""
    return [
        (
            40 + i,
            Question(
                id=f"q{i}",
                question=" " + " ".join(WORDS[: 1 + i % 5]),
                golden_answers=("red",),
                metadata={},
            ),
        )
        for i in range(10)
    ]


@pytest.fixture(scope="session")
def trajectories(kit, sampler, questions):
    """Forty rollouts in groups of four, at temperature 1."""
    done, _ = sampler.run(
        kit.params, questions, kit.environment(), group_size=4, stage=2, temperature=1.0
    )
    return done


@pytest.fixture
def compilations(caplog):
    """The names of the programs compiled so far, in any thread."""
    jax.config.update("jax_log_compiles", True)
    with caplog.at_level(logging.WARNING):
        yield lambda: [
            record.getMessage().rpartition(" in ")[0]
            for record in caplog.records
            # "Compiling..." is logged only for the first device.
            if record.getMessage().startswith("Finished XLA compilation")
        ]
    jax.config.update("jax_log_compiles", False)
