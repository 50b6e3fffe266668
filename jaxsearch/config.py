"""The configuration of a run, as frozen dataclasses that are checked when built.

All defaults of a run are defined in this module.
"""

import dataclasses
import datetime
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Array

from jaxsearch.data.mixture import QuestionsFrom, parse_questions
from jaxsearch.env.environment import Environment
from jaxsearch.env.search import search_only
from jaxsearch.local_paths import check_local
from jaxsearch.mesh import MeshShape
from jaxsearch.models.kernels import DecodeKernel, RowKernel
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.monitor.guards import GuardConfig
from jaxsearch.remote.address import DialectName, is_milvus, parse_addresses
from jaxsearch.remote.settings import ClientSettings
from jaxsearch.rewards.own import RewardFunction, check_reward
from jaxsearch.rewards.tasks import RESEARCH, Task
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.aggregation import Weights, token_mean
from jaxsearch.rl.credit import requirements_of
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Retriever
from jaxsearch.web.config import WebConfig
from jaxsearch.web.provider import WebProvider

AdvantageFunction = Callable[..., Array]
"""An estimator, as `rl.credit` describes it."""
AggregationFunction = Callable[..., Weights]
"""As `rl.aggregation` describes it."""
EnvironmentFunction = Callable[..., Environment]
"""(EnvironmentInputs) -> Environment."""


def _at_least(owner: Any, smallest: int, *names: str) -> None:
    """Checks that fields are finite and at least `smallest`.

    Raises:
      ValueError: for the first field that is not.
    """
    values = vars(owner)
    for name in names:
        if not smallest <= values[name] < math.inf:
            raise ValueError(f"{name} must be at least {smallest}, got {values[name]}")


def _check_date(name: str, value: str) -> None:
    """Checks that a field is a day.

    Raises:
      ValueError: if it is not.
    """
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"{name} must be a day such as 2026-01-31, got {value!r:.80}"
        ) from None


def _check_functions(owner: Any, *names: str) -> None:
    """Checks that fields are callable.

    Raises:
      ValueError: naming the first field that is not.
    """
    for name in names:
        value = vars(owner)[name]
        if not callable(value):
            raise ValueError(
                f"{name} must be a function or another callable, got {value!r:.80}; "
                "in a config file import it and give the function itself"
            )


def _check_questions(owner: Any, *names: str) -> None:
    """Checks that the weights in mixtures given as text are numbers.

    Raises:
      ValueError: naming the first field with an invalid weight.
    """
    for name in names:
        value = vars(owner)[name]
        try:
            if isinstance(value, str):
                parse_questions(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _check_task(task: Any) -> None:
    """Checks the task of a stage.

    Raises:
      ValueError: if it is not a Task.
    """
    if not isinstance(task, Task):
        raise ValueError(
            "a stage's task must be a Task, such as jaxsearch.rewards.tasks.RESEARCH, "
            f"got {task!r:.80}; to look one up by name, use task_named({task!r:.80})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy: a Hugging Face model, or a network with random weights."""

    path: str = ""
    """Hugging Face folder or Hub id; jaxsearch:quickstart for the quickstart's policy
    after its warm-up, which ships with the package; or, to begin from another run's
    policy and tokenizer, that run's folder (its best checkpoint, else its last) or one
    of its checkpoints (RUN/best, RUN/checkpoints/STEP). Empty for random weights."""
    tokenizer: str = ""
    """Tokenizer folder or Hub id; empty for that of `path`, else of data.source."""
    end_token: str = ""
    """Token that ends a row; empty for the tokenizer's end token and those in the model
    folder's generation_config.json, or in config.json if there is no such file."""
    prompt: Literal["auto", "chat", "base"] = "auto"
    """chat uses the tokenizer's chat template; base uses plain text, for models that
    were not tuned for chat; auto uses chat if there is a template."""
    prompt_template: str = ""
    """File with a prompt that contains {question} and replaces the task's prompt: chat
    messages if the file is named *.json, else plain text; empty for the task's
    prompt."""
    prompt_date: str = ""
    """Date that a chat template reads as today's (YYYY-MM-DD); empty for the day on
    which the run starts. The run records that day, so that a resumed run has the same
    prompts."""
    width: int = 128
    """D, model width. This and the following sizes are used only without `path`."""
    mlp_width: int = 256
    """F, width of the MLP."""
    num_layers: int = 2
    """L, decoder blocks."""
    num_heads: int = 4
    """N, query heads."""
    num_kv_heads: int = 4
    """K, key/value heads; must divide num_heads."""
    head_width: int = 32
    """H, width of a head; must be even."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths; a small base suits short rows."""
    has_qkv_bias: bool = True
    """Bias of the query, key and value projections, as in Qwen2."""
    has_qk_norm: bool = False
    """Normalisation of queries and keys, as in Qwen3."""
    has_tied_head: bool = True
    """Whether the output head shares the embedding's weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """dtype of activations. Parameters are float32 in training."""
    remat: bool = False
    """Rematerialisation: recompute each layer from its input in the backward pass,
    which takes less memory and about a third more time. Without it, the results of
    each layer's matrix products are kept."""
    attention: RowKernel | None = None
    """Attention kernel for training and for the prefill of prompts (auto, splash,
    cudnn, plain or module:NAME). Splash needs a TPU, cuDNN an NVIDIA GPU and bfloat16;
    None or auto takes the first that can run, else plain XLA."""
    decode_attention: DecodeKernel | None = None
    """Attention kernel for decoding, which also determines the cache layout (auto,
    tpu_pages, plain or module:NAME). None or auto takes the first that can run."""
    pack_sequences: bool = False
    """Pack several short rollouts into one row of max_len tokens in training. Attention
    keeps them separate (cuDNN's kernel cannot); the gradient is the same."""
    lora: LoRAConfig = LoRAConfig()
    """Low-rank adapters to train instead of the weights; rank 0 for none."""

    def __post_init__(self):
        for name in ("attention", "decode_attention"):
            value = vars(self)[name]
            if isinstance(value, str):
                raise ValueError(
                    f"model.{name} is a kernel, not a name: got {value!r:.80}; leave "
                    "it out for the automatic choice, or import one, as in `from "
                    "jaxsearch.models.row_attention import PLAIN`"
                )
        if self.prompt_date:
            _check_date("prompt_date", self.prompt_date)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Questions. Each field is a file, a prepared set, or a mixture. Files may have any
    of the formats in `data.formats`, and may be in a data set on the Hugging Face Hub:
    hf://OWNER/NAME[/FILE][@REVISION]. The run records the commit, and a resumed run
    reads that commit. A prepared set (`jaxsearch data --help`) has a name, such as
    hotpotqa or hotpotqa/dev."""

    source: Callable[..., Any]
    """(run folder, seed) -> Dataset, the source of everything not read from a file."""
    questions: QuestionsFrom = ""
    """Training questions for all RL stages: a file, a set, or a Mixture, on the command
    line hotpotqa=2,2wiki=1 (two of every three questions from HotpotQA). Empty for
    those of `source`."""
    heldout: QuestionsFrom = ""
    """Questions to evaluate on: a file, a set, or several separated by commas.
    Empty for those of `source`, or, if the last RL stage trains on a file, for a share
    of that file."""
    heldout_share: float = 0.1
    """Share of that file to hold out: evaluated on and never trained on. The choice
    depends on the texts of the questions alone, not on the seed. Fewer than 10
    questions are not held out, because they measure too little. 0 for no evaluation."""
    max_heldout: int = 200
    """Largest number of questions to hold out of a file."""
    skip_bad_rows: bool = False
    """Skip malformed rows of these files, of the files of stages and of
    retrieval.corpus; otherwise they are an error."""
    drop_long_prompts: bool = True
    """Drop questions whose prompts exceed rollout.max_prompt_len, and print their
    number; False makes them an error."""

    def __post_init__(self):
        _check_functions(self, "source")
        _check_questions(self, "questions", "heldout")
        _at_least(self, 1, "max_heldout")
        if not 0 <= self.heldout_share < 1:
            raise ValueError(
                "data.heldout_share must be in [0, 1) (0: no evaluation), got "
                f"{self.heldout_share}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Passages and the search over them."""

    corpus: str = ""
    """File of passages, local or hf://OWNER/NAME[/FILE][@REVISION]. Their index is
    built once and kept in the run's folder."""
    index: str = ""
    """Folder of an index made by `jaxsearch index build`, instead of a corpus."""
    heldout_index: str = ""
    """Folder of an index for held-out questions; empty for the passages that the source
    of the data has for them, or `index` if it has none."""
    retriever: Retriever | Callable[..., Retriever] | None = None
    """Custom retriever, instead of a corpus or an index: an object with
    `search(queries, k)`, or a function that makes one. Each process opens a separate
    one; it also serves held-out questions."""
    url: str = ""
    """Search server, instead of a corpus or an index: http://HOST:PORT, or several
    servers of the same index, separated by commas. A server that requires a bearer
    token gets the one in JAXSEARCH_SEARCH_TOKEN, if you give its address here or with
    --trust. Or a Milvus collection that `jaxsearch index push` filled,
    milvus://HOST:PORT/COLLECTION; it needs the index's `encoder`."""
    heldout_url: str = ""
    """Search server for held-out questions; empty for the passages that the source of
    the data has for them, or `url` if it has none."""
    dialect: DialectName = "auto"
    """Dialect of the servers: research (POST /batch_search), search_r1 (/retrieve, also
    that of verl and SkyRL), r1_searcher (/queries), or auto, which asks the servers."""
    client: ClientSettings = ClientSettings()
    web: WebProvider | None = None
    """Search of the open web, instead of a corpus or an index: serper, serpapi, brave,
    searxng, google, or a function (WebQuery) -> list of WebResult. The fields under
    `web` configure it; it also serves held-out questions."""
    num_passages: int = 5
    """Passages per search."""
    encoder: Encoder | Callable[..., Any] | str = "tfidf"
    """Encoder of an index built from `corpus`: tfidf; the folder or Hub id of a BERT
    encoder whose files specify its settings (otherwise use `jaxsearch index build`); or
    a custom encoder: a `search.encoder.Encoder`, or a function that makes one from the
    passages. Opening an index built with a custom encoder needs that encoder again."""
    dims: int = 1024
    """Width of TF-IDF vectors in an index built from `corpus`."""
    query_device: Literal["host", "accelerator"] = "host"
    """Device that runs a BERT encoder on queries: the host's CPU, while the accelerator
    decodes, or the accelerator, between decode calls."""
    attempts: int = 3
    """Attempts per batch of queries before the search counts as failed. An attempt
    fails on an error, a timeout or a wrong number of results."""
    timeout_s: float = 60.0
    """Timeout of each attempt, in seconds."""
    min_kept: float = 0.5
    """Smallest share of a step's rollouts without failed searches. Below this share,
    the step is not learned from but repeated after a pause; 0 learns from whatever is
    left. A held-out evaluation is repeated likewise; failed searches that remain count
    as wrong."""
    max_outage_s: float = 3600.0
    """Seconds for which a step or a held-out evaluation is repeated; then the run saves
    and ends with status 75, and the same command continues."""

    def __post_init__(self):
        _at_least(self, 1, "num_passages", "dims", "attempts")
        _at_least(self, 0, "min_kept", "max_outage_s")
        if self.min_kept > 1.0:
            raise ValueError(f"min_kept is a share, at most 1, got {self.min_kept}")
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"timeout_s must be positive and finite, got {self.timeout_s}"
            )
        if self.retriever is not None:
            _check_retriever(self)
        _check_urls(self)
        if self.web is not None:
            _check_web(self)
        if self.corpus and self.index:
            raise ValueError(
                "retrieval.corpus and retrieval.index exclude each other: give one "
                f"(got {self.corpus!r:.300} and {self.index!r:.300})"
            )
        is_named = isinstance(self.encoder, str)
        if not (is_named or isinstance(self.encoder, Encoder)):
            _check_functions(self, "encoder")
        if self.index and is_named and self.encoder != "tfidf":
            raise ValueError(
                "retrieval.encoder is for an index built from retrieval.corpus, but "
                "retrieval.index comes with an encoder: give one of them (got "
                f"{self.encoder!r:.300} and {self.index!r:.300})"
            )


def _check_retriever(retrieval: RetrievalConfig) -> None:
    """Checks a custom retriever.

    Raises:
      ValueError: if it is not a retriever, or a corpus or index is given as well.
    """
    retriever = retrieval.retriever
    if not (isinstance(retriever, Retriever) or callable(retriever)):
        raise ValueError(
            "retrieval.retriever must have a method search(queries, k), or be a "
            f"function that makes such an object; got {retriever!r:.80}"
        )
    for name in ("corpus", "index", "heldout_index"):
        if value := vars(retrieval)[name]:
            raise ValueError(
                f"retrieval.retriever and retrieval.{name} exclude each other: give "
                f"one (got {value!r:.300} as well)"
            )


def _check_urls(retrieval: RetrievalConfig) -> None:
    """Checks the addresses of servers.

    Raises:
      ValueError: if one is malformed, or something else to search is given as well.
    """
    for name in ("url", "heldout_url"):
        text = vars(retrieval)[name]
        try:
            if text and not is_milvus(text):
                parse_addresses(text)
        except ValueError as error:
            raise ValueError(f"retrieval.{name}: {error}") from None
    if not retrieval.url:
        if retrieval.heldout_url:
            raise ValueError(
                "retrieval.heldout_url is for runs with retrieval.url: give both (got "
                f"{retrieval.heldout_url!r:.300})"
            )
        return
    others = ("retriever", "corpus", "index", "heldout_index", "web")
    for name in others:
        if vars(retrieval)[name]:
            raise ValueError(
                f"retrieval.url and retrieval.{name} exclude each other: give one "
                f"(got {retrieval.url!r:.300} and {vars(retrieval)[name]!r:.80})"
            )


def _check_web(retrieval: RetrievalConfig) -> None:
    """Checks a web search.

    Raises:
      ValueError: if it is not a function, or there is another search as well.
    """
    _check_functions(retrieval, "web")
    for name in ("corpus", "index", "heldout_index", "retriever"):
        if value := vars(retrieval)[name]:
            raise ValueError(
                f"retrieval.web and retrieval.{name} exclude each other: give one (got "
                f"{value!r:.80} as well)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Budgets and sampling of rollouts. Lengths are in tokens."""

    num_slots: int = 64
    """Slots per replica: rollouts that are in flight at the same time."""
    max_len: int = 1024
    """Budget of a whole rollout: prompt, turns and observations."""
    max_prompt_len: int = 256
    """Budget of a prompt; data.drop_long_prompts says what happens to longer ones."""
    max_turn_len: int = 256
    """Budget of a turn: what the policy writes between two observations."""
    max_observation_len: int = 512
    """Budget of an observation; a longer one is truncated and counted."""
    max_searches: int = 4
    """Calls of search and all other tools per rollout; one more ends the rollout."""
    search_calls: int = 0
    """0 reads the results of searches and other tools as they arrive, and assigns
    prompts to replicas as slots become free. Random numbers belong to a rollout, so the
    order of arrival changes a trajectory only as far as rounding does: rows that decode
    together share a program. Any other number is the number of decode calls after which
    a result is read: decoding waits for a slower search, rollouts are assigned in
    advance, and two runs, one of which may have been resumed, are identical bit for
    bit (on GPUs only with XLA_FLAGS=--xla_gpu_deterministic_ops=true, because some of
    their operations add in another order each time)."""
    cache_len: int | None = None
    """Tokens that a replica's KV cache holds for all slots together; None for max_len
    per slot. Most rollouts are far shorter than max_len, so a smaller cache can serve
    more slots. When it is full, the youngest rollout is restarted later, with the same
    result."""
    on_search_failure: Literal["drop", "observe"] = "drop"
    """Handling of rollouts whose search failed: drop ends them and excludes them from
    the update; observe continues with an observation that reports the failure."""
    has_reminder: bool = False
    """Answer a turn that stops without a query with the protocol's reminder of how to
    search (Search-R1 has one), instead of an empty search."""
    top_k: int | None = None
    """Sample among the k most likely tokens; None for all."""
    top_p: float | None = None
    """Sample among the most likely tokens of this total probability; None for all."""
    tensor: int = 1
    """Devices per replica, which share one copy of the policy."""
    replicas: int | None = None
    """Replicas per process, which roll out in parallel; None for as many as fit on the
    devices of a process."""

    def __post_init__(self):
        _at_least(
            self,
            1,
            *("num_slots", "max_prompt_len", "max_turn_len", "max_observation_len"),
            "tensor",
        )
        given = [n for n in ("replicas", "top_k") if vars(self)[n] is not None]
        _at_least(self, 1, *given)
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"top_p ({self.top_p}) must be in (0, 1], or None for all tokens"
            )
        _at_least(self, 0, "max_searches", "search_calls")
        for name, what in (("prompt", "its prompt"), ("observation", "an observation")):
            budget = vars(self)[f"max_{name}_len"]
            if budget >= self.max_len:
                raise ValueError(
                    f"max_{name}_len ({budget}) must be less than max_len "
                    f"({self.max_len}): a rollout needs room after {what}"
                )
        if self.cache_len is not None and self.cache_len < self.max_len:
            raise ValueError(
                f"cache_len ({self.cache_len}) must hold at least one rollout of "
                f"max_len ({self.max_len}) tokens"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedStage:
    """Supervised learning from demonstrations; observations get no loss."""

    name: str
    """Name of the stage in metrics and messages."""
    demonstrations: Callable[..., Any]
    """(seed) -> list of Demonstration."""
    steps: int
    """Steps, of one update each."""
    task: Task = RESEARCH
    """Task (see `jaxsearch score --help`) whose protocol formats the demonstrations in
    a run without RL stages. A run with RL stages uses the protocol of those stages
    instead."""
    batch_size: int = 32
    """Demonstrations per update."""
    max_tokens: int = 16_384
    """Padded tokens per microbatch."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, warmup_steps=10)
    max_skipped: int = 5
    """Consecutive non-finite updates after which the run stops."""

    def __post_init__(self):
        _at_least(self, 1, "steps", "batch_size", "max_tokens", "max_skipped")
        _check_functions(self, "demonstrations")
        _check_task(self.task)

    @property
    def num_updates(self) -> int:
        """Updates of the whole stage, the length of its learning rate schedule."""
        return self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLStage:
    """Reinforcement learning: rollout, reward, advantage, update."""

    name: str
    """Name of the stage in metrics and messages."""
    steps: int
    """Steps, each with new rollouts."""
    task: Task = RESEARCH
    """Protocol, reward and normaliser: a value from `rewards.tasks` or a custom one. On
    the command line, a name (see `jaxsearch score --help`), package.module:NAME or
    path/to/file.py:NAME."""
    reward: RewardFunction | Sequence[Any] | None = None
    """A reward of your own in place of the task's: a function (question, answer, *,
    searches, row) -> a number, or numbers by name; or several, as (function, weight)
    pairs. Each becomes the metric reward/NAME. `rewards.own` describes it. On the
    command line, package.module:NAME or path/to/file.py:NAME of one or of a sequence of
    them; task for the reward of the task."""
    questions: QuestionsFrom = ""
    """Questions for this stage alone, in the form of data.questions. If that is given,
    it overrides this field."""
    questions_per_step: int = 256
    """Q, questions per step."""
    group_size: int = 5
    """G, answers per question."""
    max_draws: int = 1
    """Dynamic sampling (DAPO): a step draws up to this many batches of questions until
    questions_per_step groups have unequal rewards, and trains on those alone; a group
    with equal rewards has nothing to compare. 1 trains on one batch, as it is."""
    temperature: float = 1.0
    """Temperature of sampling, and of the log-probs in the loss."""
    advantage: AdvantageFunction = group_relative
    """(rewards [Q G], is_kept [Q G]) -> advantages [Q G], or one per policy turn
    [Q G turns]; values of rollouts that are not kept are ignored. `rl.advantages` has
    group_relative (GRPO), group_relative_population, group_centred (Dr. GRPO,
    REINFORCE++-baseline), leave_one_out (RLOO) and plain_reward (REINFORCE++);
    `rl.credit` describes how to write a custom one."""
    whiten_advantages: bool = False
    """Normalise the advantages of all policy tokens of a step to mean 0 and variance 1,
    as REINFORCE++ does."""
    reward_kl_weight: float = 0.0
    """Weight of the KL (k1) to the policy at the start of the stage, subtracted from
    the reward of each token. Requires objective.kl_weight to be 0."""
    overlong_buffer: int = 0
    """DAPO's overlong penalty grows from 0 to 1 over this many tokens, the last ones
    before overlong_len; 0 for no penalty."""
    overlong_len: int | None = None
    """Tokens of the policy, over all turns, at which the overlong penalty is 1. Prompt
    and retrieved tokens do not count. None for rollout.max_len, which a rollout cannot
    write in full: its prompt is part of it."""
    max_importance: float | None = None
    """Truncated importance sampling: each token is weighted by its probability under
    the trainer divided by that under the sampler's (truncated) distribution, clipped at
    this value (2 is usual). The trainer recomputes the log-probs. None for none."""
    minibatches_per_step: int = 1
    """Number of minibatches that a step's rollouts are split into, in the order of the
    questions; each makes one update. A group may span two minibatches."""
    objective: PolicyObjective = PolicyObjective()
    aggregation: AggregationFunction = token_mean
    """(policy tokens per rollout [R], max_len) -> (weight per token of each rollout
    [R], divisor of the weighted sum). `rl.aggregation` has token_mean, sequence_mean,
    sequence_sum and fixed_length (Dr. GRPO)."""
    skips_without_advantage: bool = True
    """Leave parameters and optimizer as they are in a step in which no rollout has an
    advantage, such as one whose groups all have equal rewards. False updates by KL,
    entropy bonus, weight decay and momentum alone, which Adam scales to full steps."""
    drops_zero_advantages: bool = False
    """Leave rollouts with advantage 0, such as those of a group with equal rewards, out
    of the update, which then takes less time. The gradient is the same: without KL,
    entropy bonus and whitening, which must be 0 or off, they add nothing to it. The
    update's metrics, such as entropy and drift, are means over the other rollouts, or
    those of the first rollout if there are no others."""
    optimizer: OptimizerConfig = OptimizerConfig()
    max_tokens: int = 16_384
    """Padded tokens per microbatch."""
    has_masked_observations: bool = True
    """False also trains on retrieved tokens, as a control that is expected to fail."""
    max_skipped: int = 5
    """Consecutive non-finite updates after which the run stops."""

    def __post_init__(self):
        _at_least(self, 1, "steps", "questions_per_step", "max_tokens", "max_skipped")
        _at_least(self, 1, "minibatches_per_step", "max_draws")
        _check_functions(self, "advantage", "aggregation")
        _at_least(self, requirements_of(self.advantage).min_group_size, "group_size")
        _at_least(self, 0, "reward_kl_weight", "overlong_buffer")
        if self.overlong_len is not None:
            _at_least(self, 1, "overlong_len")
        if self.questions_per_step * self.group_size % self.minibatches_per_step:
            raise ValueError(
                f"minibatches_per_step ({self.minibatches_per_step}) must divide the "
                f"rollouts of a step ({self.questions_per_step} x {self.group_size})"
            )
        if self.max_importance is not None:
            _at_least(self, 1, "max_importance")
            if not self.has_masked_observations:
                raise ValueError(
                    "max_importance weighs tokens by the sampler's probabilities, "
                    "which retrieved tokens do not have; with has_masked_observations "
                    "False it must be None"
                )
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be positive in training, got {self.temperature}"
            )
        if self.reward_kl_weight and self.objective.kl_weight:
            raise ValueError(
                "the KL would be counted twice: reward_kl_weight is "
                f"{self.reward_kl_weight} and objective.kl_weight is "
                f"{self.objective.kl_weight}; set one of them to 0"
            )
        if self.drops_zero_advantages:
            _check_only_advantages(self)
        _check_task(self.task)
        _check_questions(self, "questions")
        if self.reward is not None:
            check_reward(self.reward)

    @property
    def judging_task(self) -> Task:
        """The task that judges rollouts, with the stage's own reward if it has one."""
        if self.reward is None:
            return self.task
        return dataclasses.replace(self.task, own_reward=self.reward)

    @property
    def num_updates(self) -> int:
        """Updates of the whole stage, the length of its learning rate schedule."""
        return self.steps * self.minibatches_per_step

    @property
    def needs_reference(self) -> bool:
        """Whether KL to the policy at the start of the stage is measured."""
        return self.objective.needs_reference or self.reward_kl_weight > 0


def _check_only_advantages(stage: RLStage) -> None:
    """Checks that a rollout with advantage 0 has no gradient.

    Raises:
      ValueError: naming the first setting that gives it one.
    """
    settings = {
        "objective.kl_weight": stage.objective.kl_weight,
        "objective.entropy_weight": stage.objective.entropy_weight,
        "reward_kl_weight": stage.reward_kl_weight,
        "whiten_advantages": stage.whiten_advantages,
    }
    for name, value in settings.items():
        if value:
            raise ValueError(
                f"drops_zero_advantages leaves out rollouts that {name} ({value}) "
                "trains on; set one of the two to 0 or False"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on held-out questions, if there are any."""

    every: int = 0
    """RL steps between evaluations; 0 evaluates only before the first step and after
    the last."""
    limit: int = 0
    """Number of questions, from the first; 0 for all."""
    num_printed: int = 0
    """Trajectories to print after the last step."""
    patience: int = 0
    """Early stopping: the last RL stage ends after this many evaluations in a row
    without a new best exact match. 0 for none. The last evaluation before the stage
    sets the first best."""
    min_improvement: float = 0.0
    """Exact match by which an evaluation must exceed the best one to count as a new
    best."""

    def __post_init__(self):
        _at_least(self, 0, "every", "limit", "num_printed", "patience")
        _at_least(self, 0, "min_improvement")
        if self.patience and not self.every:
            raise ValueError(
                f"eval.patience is {self.patience} evaluations during RL, but "
                "eval.every is 0, so there are none; set eval.every to a number of "
                "steps"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Outputs in addition to metrics.jsonl, eval.jsonl and the console."""

    wandb: Literal["offline", "online", "disabled"] = "offline"
    """Weights & Biases (W&B) mode; offline writes to the run's folder, online needs
    WANDB_API_KEY or `wandb login`."""
    wandb_project: str = ""
    """W&B project; empty for WANDB_PROJECT, or jaxsearch if that is not set."""
    wandb_entity: str = ""
    """W&B user or team; empty for WANDB_ENTITY, or the account's default."""
    wandb_name: str = ""
    """Name of the run in W&B; empty for WANDB_NAME, or the name of the run's folder."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the run in W&B; empty for those in WANDB_TAGS."""
    tensorboard: bool = False
    """Write TensorBoard events; needs the extra `tensorboard`."""
    rollouts_every: int = 10
    """Steps between files of rollouts; 0 for none, not even for the held-out questions
    before and after RL."""
    samples_every: int = 0
    """Print rollouts on the console at the first step of an RL stage and every this
    many steps; 0 for none."""
    num_samples: int = 1
    """Rollouts to print then: the first one of each of this many questions."""

    def __post_init__(self):
        _at_least(self, 0, "rollouts_every", "samples_every")
        _at_least(self, 1, "num_samples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Checkpoints, from which a run resumes."""

    every: int = 10
    """Steps between checkpoints; stages of fewer than 10 steps save every step."""
    keep: int = 2
    """Number of newest checkpoints to keep. The parameters with the best exact match on
    held-out questions are kept in addition."""
    keep_every: int = 0
    """Checkpoints of steps that are multiples of this are kept too; 0 for none. They
    must be saved: choose a multiple of `every`."""
    minutes: float = 0.0
    """Also save when this many minutes have passed since the last checkpoint; 0 for
    never. For runs whose steps take minutes, on machines that may be taken away."""
    keep_non_finite: int = 2
    """Number of updates with a non-finite gradient to keep, with batch and parameters,
    for `jaxsearch replay`; 0 for none."""

    def __post_init__(self):
        _at_least(self, 1, "every", "keep")
        _at_least(self, 0, "keep_every", "minutes", "keep_non_finite")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: policy, data, retrieval, rollouts and stages."""

    model: ModelConfig
    data: DataConfig
    retrieval: RetrievalConfig = RetrievalConfig()
    web: WebConfig = WebConfig()
    rollout: RolloutConfig = RolloutConfig()
    environment: EnvironmentFunction = search_only
    """(EnvironmentInputs) -> Environment: the tools that answer the policy. It is
    called for training, for evaluation and once as a check."""
    stages: tuple[SupervisedStage | RLStage, ...]
    """Stages, run in order, each with a new optimizer."""
    guards: GuardConfig = GuardConfig()
    eval: EvalConfig = EvalConfig()
    logging: LoggingConfig = LoggingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshShape = MeshShape()
    seed: int = 0
    """Seed of all randomness: worlds, weights, order of questions, sampling."""
    steps: int | None = None
    """Limit on the steps of each RL stage; None for none. It does not change the length
    of learning rate schedules."""
    warmup_steps: int | None = None
    """The same limit for each supervised stage."""
    out: str = ""
    """The run's folder, or its address in a bucket, such as gs://BUCKET/runs/NAME;
    empty for runs/<name of the config file>."""

    def __post_init__(self):
        check_local(self.web.cache, "the cache of the web (web.cache)")
        _check_functions(self, "environment")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"expected at least one stage, with distinct names; got {names}"
            )
        protocols = [s.task.protocol for s in self.stages if isinstance(s, RLStage)]
        if any(protocol != protocols[0] for protocol in protocols):
            raise ValueError(
                "the RL stages of a run must share one protocol, got "
                f"{[protocol.name for protocol in protocols]}"
            )
        for stage in self.stages:
            if isinstance(stage, RLStage):
                _check_overlong(stage, self.rollout.max_len)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in 0..2^31-1, got {self.seed}")
        for name in ("steps", "warmup_steps"):
            value = {"steps": self.steps, "warmup_steps": self.warmup_steps}[name]
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def task(self) -> Task:
        """The task that held-out questions are judged by: the last RL stage's."""
        tasks = [s.judging_task for s in self.stages if isinstance(s, RLStage)]
        return tasks[-1] if tasks else self.stages[-1].task

    def num_steps(self, stage: SupervisedStage | RLStage) -> int:
        """Steps of a stage, limited by `steps` or `warmup_steps`."""
        is_rl = isinstance(stage, RLStage)
        limit = self.steps if is_rl else self.warmup_steps
        return stage.steps if limit is None else min(stage.steps, limit)


def _check_overlong(stage: RLStage, max_len: int) -> None:
    name, limit = "overlong_len", stage.overlong_len
    if limit is None:
        name, limit = "rollout.max_len", max_len
    if stage.overlong_buffer >= limit:
        raise ValueError(
            f"overlong_buffer ({stage.overlong_buffer}) must be less than {name} "
            f"({limit})"
        )
