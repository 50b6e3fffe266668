"""The training sampler, with turn lengths given by a workload."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jaxtyping import Int

from jaxsearch.bench.workload import Workload
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.search import SearchEnvironment
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.mesh import platform, replicated
from jaxsearch.models.decode_kernels import decode_kernel
from jaxsearch.models.kernels import Target
from jaxsearch.models.transformer import Transformer
from jaxsearch.protocol import Protocol, TagPair, xml_tags
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.rollouts.records import Rollout
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

_NO_ID = -1  # equals no sampled id, so that turns have their scripted lengths


class LatentIndex:
    """An index that returns the same passage for every query, after a delay."""

    def __init__(self, num_words: int, latency_s: float):
        self._passage = Passage(id="0", contents="\n" + " ".join(["w7"] * num_words))
        self._latency_s = latency_s

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        time.sleep(self._latency_s)
        return [[Hit(passage=self._passage, score=1.0)] for _ in queries]


def words_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer with one token per word, so that texts have known lengths."""
    return pieces_tokenizer([f"▁w{i}" for i in range(vocab_size - 2)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScriptedProtocol(Protocol):
    """A protocol that adds no text around a prompt or an observation.

    Turns have scripted lengths, so its tags are unused.
    """

    name: str = "scripted"
    think: TagPair = xml_tags("think")
    search: TagPair = xml_tags("search")
    answer: TagPair = xml_tags("answer")
    result_open: str = xml_tags("result").open
    result_close: str = xml_tags("result").close
    stop_tags = ("w0",)
    control_tags = ()

    def default_prompt(self, question: str) -> str:
        return question

    def default_messages(self, question: str) -> list[dict[str, str]]:
        return []

    def query(self, turn_text: str) -> str:
        return turn_text

    def render(self, passages: Sequence[Passage]) -> str:
        return "".join(f" {passage.text}" for passage in passages)

    def frame(self, body: str) -> str:
        return body

    def has_answer(self, segments: Sequence[Segment]) -> bool:
        return False

    def search_turn(self, thought: str, query: str) -> str:
        return query

    def answer_turn(self, thought: str, answer: str) -> str:
        return answer


def scripted_questions(workload: Workload) -> list[tuple[int, Question]]:
    """One random question of `prompt_len` words per group."""
    rng = np.random.default_rng(0)
    words = rng.integers(
        workload.architecture.vocab_size - 2,
        size=(workload.num_questions, workload.prompt_len),
    )
    return [
        (
            i,
            Question(
                id=str(i),
                question="".join(f" w{word}" for word in row),
                golden_answers=(),
            ),
        )
        for i, row in enumerate(words)
    ]


def counting_table(max_turn_len: int, vocab_size: int) -> Int[np.ndarray, "states V"]:
    """Table of an automaton that counts tokens; the last state ends the turn."""
    states = np.minimum(np.arange(1, max_turn_len + 2), max_turn_len)
    return np.tile(states[:, None].astype(np.int32), (1, vocab_size))


def scripted_sampler(
    workload: Workload, transformer: Transformer, replicas: Sequence[Mesh]
) -> Sampler:
    """The training sampler, with a counting table instead of the stop-tag table."""
    longest = workload.max_turn_len

    def turn_state(rollout: Rollout) -> int:
        number = rollout.prompt.index * workload.group_size + rollout.sample_index
        return longest - workload.turn_lens[number][rollout.turn]

    programs = Programs(
        transformer=transformer,
        end_ids=(_NO_ID,),
        max_turn_len=longest + 1,
        truncation=TopKTopP(top_p=None if workload.top_p == 1.0 else workload.top_p),
        seed=0,
    )
    budgets = Budgets(
        num_slots=workload.slots,
        max_len=max(workload.row_lens) + 1,
        max_prompt_len=workload.prompt_len,
        max_turn_len=longest + 1,
        max_observation_len=workload.observation_len,
        # A stop after the last allowed call ends a rollout.
        max_calls=workload.num_turns - 1,
    )
    vocab_size = transformer.architecture.vocab_size
    return Sampler(
        programs,
        budgets,
        ScriptedProtocol(),
        words_tokenizer(vocab_size),
        counting_table(longest, vocab_size),
        turn_state=turn_state,
        replicas=replicas,
    )


def scripted_environment(workload: Workload, tokenizer: Tokenizer) -> TokenEnvironment:
    """Returns `observation_len` tokens per search after the workload's latency."""
    protocol = ScriptedProtocol()
    search = SearchEnvironment(
        retriever=LatentIndex(workload.observation_len, workload.retrieval_latency_s),
        protocol=protocol,
        num_passages=1,
        on_search_failure="drop",
    )
    return TokenEnvironment(
        environment=search,
        protocol=protocol,
        tokenizer=tokenizer,
        max_observation_len=workload.observation_len,
    )


def random_policy(
    workload: Workload, replicas: Sequence[Mesh]
) -> tuple[Transformer, dict]:
    """The workload's network, and random weights in its dtype on each replica."""
    dtype = jnp.dtype(workload.dtype)
    target = Target(
        platform=platform(replicas[0]),
        dtype=dtype,
        head_width=workload.architecture.head_width,
    )
    transformer = Transformer(
        architecture=workload.architecture,
        dtype=dtype,
        decode_kernel=decode_kernel(None, target),
    )
    devices = np.concatenate([mesh.devices for mesh in replicas])
    init = jax.jit(
        lambda key: transformer.for_rollouts(transformer.init(key)),
        out_shardings=replicated(Mesh(devices, ("data",), axis_types=(AxisType.Auto,))),
    )
    return transformer, init(jax.random.key(0))
