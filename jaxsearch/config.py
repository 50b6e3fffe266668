"""A run as frozen values. Every default of a run is here and nowhere else."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

from jaxsearch.mesh import MeshShape
from jaxsearch.models.kernels import DecodeKernel, RowKernel
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.monitor.guards import GuardConfig
from jaxsearch.rewards.tasks import RESEARCH, Task
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.aggregation import token_mean
from jaxsearch.rl.credit import requirements_of
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.search.encoder import Encoder


def _at_least(owner: Any, smallest: int, *names: str) -> None:
    """Errors: ValueError naming the first field that is smaller, or not finite."""
    values = vars(owner)
    for name in names:
        if not smallest <= values[name] < math.inf:
            raise ValueError(f"{name} must be at least {smallest}, got {values[name]}")


def _check_task(task: Any) -> None:
    """Raises: ValueError: if a stage has no Task."""
    if not isinstance(task, Task):
        raise ValueError(
            "a stage's task is a Task, such as jaxsearch.rewards.tasks.RESEARCH, got "
            f"{task!r:.80}; a task of that name is task_named({task!r:.80})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy: from a Hugging Face folder, or from random weights."""

    path: str = ""
    """Hugging Face folder with config.json and safetensors; empty: random weights."""
    tokenizer: str = ""
    """Tokenizer folder or Hub id; empty: that of `path`, or of the run's material."""
    end_token: str = ""
    """Ends a row; empty: the tokenizer's own, and those that the folder's
    generation_config.json names besides."""
    prompt: Literal["auto", "chat", "base"] = "auto"
    """chat: under the tokenizer's template; base: plain text, as for a model that was
    not tuned to chat; auto: chat if there is a template."""
    prompt_template: str = ""
    """File with {question} in it, in place of the recipe's prompt: chat messages if it
    is named *.json, else the whole prompt as text; empty: the recipe's own."""
    width: int = 128
    """D. The sizes from here on count only without `path`."""
    mlp_width: int = 256
    """F."""
    num_layers: int = 2
    """L."""
    num_heads: int = 4
    """N, query heads."""
    num_kv_heads: int = 4
    """K, key/value heads; divides num_heads."""
    head_width: int = 32
    """H, even."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths; small for short rows."""
    has_qkv_bias: bool = True
    """Qwen2 has it, Qwen3 and Llama do not."""
    has_qk_norm: bool = False
    """Qwen3 has it: queries and keys are normalised."""
    has_tied_head: bool = True
    """Whether the head is the embedding."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations. Parameters and optimizer are float32."""
    remat: bool = False
    """Recompute each layer in the backward pass from its input alone: less memory, a
    third more time. Else the results of its products are kept."""
    attention: RowKernel | None = None
    """Attention kernel of training and of the prefill of prompts (auto, splash, cudnn,
    plain or module:NAME). Splash needs a TPU, cuDNN an NVIDIA GPU and bfloat16; None or
    auto takes the first of them that can run, else plain XLA."""
    decode_attention: DecodeKernel | None = None
    """Attention kernel of decoding, which brings the layout of its cache (auto,
    tpu_pages, plain or module:NAME). None or auto takes the first that can run."""
    pack_sequences: bool = False
    """In training, rollouts share a row of max_len tokens where they fit; attention
    (not cuDNN's) keeps them apart. The gradient is the same."""
    lora: LoRAConfig = LoRAConfig()
    """Train low-rank updates of the weights in place of the weights."""

    def __post_init__(self):
        for name in ("attention", "decode_attention"):
            value = vars(self)[name]
            if isinstance(value, str):
                raise ValueError(
                    f"model.{name} is a kernel, not a name: got {value!r}; leave it "
                    "out for the automatic choice, or import one, as in `from "
                    "jaxsearch.models.row_attention import PLAIN`"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Questions. Files: FlashRAG JSONL (gz too) and the formats of `data.formats`."""

    source: Callable[..., Any]
    """(run folder, seed) -> Material: what the run uses where no file is named."""
    questions: str = ""
    """File of training questions, for every RL stage."""
    heldout: str = ""
    """File of questions to evaluate on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Where passages come from."""

    corpus: str = ""
    """File of passages; its index is built once and kept in the run folder."""
    index: str = ""
    """Folder of an index (`jaxsearch index build`), in place of a corpus."""
    num_passages: int = 5
    """Passages per search."""
    encoder: Encoder | Callable[..., Any] | str = "tfidf"
    """Encoder of an index that is built here: tfidf, or the folder or Hub id of a BERT
    encoder whose own files state its settings (else use `jaxsearch index build`), or
    an encoder of your own: a `search.encoder.Encoder`, or a function that makes one
    from the passages. An index built with your own encoder needs it again to open."""
    dims: int = 1024
    """Width of TF-IDF vectors, for an index that is built here."""
    query_device: Literal["host", "accelerator"] = "host"
    """Where a BERT encoder computes queries: the host's CPU, while the accelerator
    decodes, or the accelerator, between its calls."""
    attempts: int = 3
    """Tries of a batch of queries before its search has failed: an error, no answer
    in time, or a wrong number of results fails a try."""
    timeout_s: float = 60.0
    """Seconds that a try may take."""

    def __post_init__(self):
        _at_least(self, 1, "num_passages", "dims", "attempts")
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"timeout_s must be positive and finite, got {self.timeout_s}"
            )
        if self.corpus and self.index:
            raise ValueError(
                "retrieval.corpus and retrieval.index exclude each other: name one "
                f"(got {self.corpus!r} and {self.index!r})"
            )
        is_named = isinstance(self.encoder, str)
        if self.index and is_named and self.encoder != "tfidf":
            raise ValueError(
                "retrieval.encoder is for an index that is built here, "
                f"retrieval.index has its own: name one (got {self.encoder!r} and "
                f"{self.index!r})"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Budgets and sampling. Lengths are in tokens."""

    num_slots: int = 64
    """Rollouts in flight in each replica (of which a process has as many as its devices
    hold)."""
    max_len: int = 1024
    """Prompt, turns and observations together."""
    max_prompt_len: int = 256
    """A longer prompt is an error."""
    max_turn_len: int = 256
    """Between two observations."""
    max_observation_len: int = 512
    """A longer observation is cut and counted."""
    max_searches: int = 4
    """Per rollout; asking once more ends it."""
    search_calls: int = 1
    """Decode calls after which a search's result is taken. A fixed number makes two
    runs equal bit for bit, and gives each replica its share of the rollouts beforehand.
    0 takes results as they come in, for slow retrievers, and prompts as there is room.
    """
    cache_len: int | None = None
    """Tokens that the KV cache of a replica holds for all slots; None: max_len each.
    Most rollouts are far shorter than max_len, so a smaller cache holds more slots;
    when it is full, the youngest rollout starts again later, with the same result."""
    on_search_failure: Literal["drop", "observe"] = "drop"
    """What becomes of rollouts whose search failed. drop: they end and are left out of
    the update; observe: the policy reads that the search failed, and goes on."""
    has_reminder: bool = False
    """A turn that stops without a query is answered with the protocol's reminder of
    how to ask, if it has one (Search-R1), in place of a search for nothing."""
    top_k: int | None = None
    """Sample among the k most likely tokens; None: all."""
    top_p: float | None = None
    """Sample among the most likely tokens of that mass; None: all."""
    tensor: int = 1
    """Devices that share one copy of the policy in rollouts: a replica."""
    replicas: int | None = None
    """Copies of the policy that roll out side by side in each process; None: as many
    as its devices hold."""

    def __post_init__(self):
        _at_least(
            self,
            1,
            *("num_slots", "max_prompt_len", "max_turn_len", "max_observation_len"),
            "tensor",
        )
        if self.replicas is not None:
            _at_least(self, 1, "replicas")
        _at_least(self, 0, "max_searches", "search_calls")
        if self.max_prompt_len >= self.max_len:
            raise ValueError(
                f"max_prompt_len ({self.max_prompt_len}) must be less than max_len "
                f"({self.max_len}): a rollout needs room after its prompt"
            )
        if self.cache_len is not None and self.cache_len < self.max_len:
            raise ValueError(
                f"cache_len ({self.cache_len}) must hold at least one rollout of "
                f"max_len ({self.max_len}) tokens"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedStage:
    """Imitation of demonstrations; observations are masked."""

    name: str
    demonstrations: Callable[..., Any]
    """seed -> list of Demonstration."""
    steps: int
    """Updates; one each."""
    task: Task = RESEARCH
    """Its protocol frames the demonstrations, in a run without an RL stage; in a run
    with RL stages theirs does."""
    batch_size: int = 32
    """Demonstrations per update."""
    max_tokens: int = 16_384
    """Padded tokens of a microbatch."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, warmup_steps=10)
    max_skipped: int = 5
    """Non-finite updates in a row after which the run stops."""

    def __post_init__(self):
        _at_least(self, 1, "steps", "batch_size", "max_tokens", "max_skipped")
        _check_task(self.task)

    @property
    def num_updates(self) -> int:
        return self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLStage:
    """Rollout, reward, advantage, update."""

    name: str
    steps: int
    """Each of new rollouts."""
    task: Task = RESEARCH
    """Protocol, reward and normaliser: a value of `rewards.tasks` or one's own; on the
    command line a name (see `jaxsearch score --help`) or package.module:NAME."""
    questions: str = ""
    """File of this stage's own questions, unless data.questions names one for all."""
    questions_per_step: int = 256
    """Q."""
    group_size: int = 5
    """G, answers per question."""
    temperature: float = 1.0
    """Of sampling, and of the log-probs in the loss."""
    advantage: Callable[..., Any] = group_relative
    """(rewards [Q G], is_kept [Q G]) -> advantages [Q G], or one per policy turn
    [Q G turns]; values of rollouts that are not kept are ignored. `rl.advantages` has
    group_relative (GRPO), group_relative_population, group_centred (Dr. GRPO,
    REINFORCE++-baseline), leave_one_out (RLOO) and plain_reward (REINFORCE++);
    `rl.credit` describes how to write another."""
    whiten_advantages: bool = False
    """Bring the advantages of all policy tokens of a step to mean 0 and variance 1, as
    REINFORCE++ does, with a baseline or without."""
    reward_kl_weight: float = 0.0
    """Of KL (k1) to the policy as the stage began, taken from the rewards token by
    token; objective.kl_weight must be 0 then."""
    overlong_buffer: int = 0
    """Rollouts lose reward over the last so many tokens of rollout.max_len, 1 at its
    end (DAPO); 0: none."""
    max_importance: float | None = None
    """Truncated importance sampling: the trainer computes the log-probs of what was
    sampled anew, and a token counts as often as its policy would have drawn it against
    the sampler, with its top-k or top-p cut; at most so often (2 is usual)."""
    minibatches_per_step: int = 1
    """The step's rollouts are shared out to so many updates, question by question, one
    after the other; a group may end in the next update."""
    objective: PolicyObjective = PolicyObjective()
    aggregation: Callable[..., Any] = token_mean
    """(policy tokens of each rollout [R], max_len) -> (weight of a token's loss [R],
    what their sum is divided by). Of `rl.aggregation`: token_mean, sequence_mean,
    sequence_sum, fixed_length (Dr. GRPO)."""
    optimizer: OptimizerConfig = OptimizerConfig()
    max_tokens: int = 16_384
    """Padded tokens of a microbatch."""
    has_masked_observations: bool = True
    """False trains on retrieved tokens too: a control that is meant to fail."""
    max_skipped: int = 5
    """Non-finite updates in a row after which the run stops."""

    def __post_init__(self):
        _at_least(self, 1, "steps", "questions_per_step", "max_tokens", "max_skipped")
        _at_least(self, 1, "minibatches_per_step")
        _at_least(self, requirements_of(self.advantage).min_group_size, "group_size")
        _at_least(self, 0, "reward_kl_weight", "overlong_buffer")
        if self.questions_per_step * self.group_size % self.minibatches_per_step:
            raise ValueError(
                f"minibatches_per_step ({self.minibatches_per_step}) must divide the "
                f"rollouts of a step ({self.questions_per_step} x {self.group_size})"
            )
        if self.max_importance is not None:
            _at_least(self, 1, "max_importance")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be positive in training, got {self.temperature}"
            )
        if self.reward_kl_weight and self.objective.kl_weight:
            raise ValueError(
                f"KL is charged twice, by reward_kl_weight ({self.reward_kl_weight}) "
                f"and by objective.kl_weight ({self.objective.kl_weight}); set one of "
                "them to 0"
            )
        _check_task(self.task)

    @property
    def num_updates(self) -> int:
        return self.steps * self.minibatches_per_step

    @property
    def needs_reference(self) -> bool:
        """Whether KL to the policy as the stage began is measured."""
        return self.objective.needs_reference or self.reward_kl_weight > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on held-out questions, if there are any."""

    every: int = 0
    """RL steps between evaluations; 0: only before the first and after the last."""
    limit: int = 0
    """Questions; 0: all."""
    num_printed: int = 0
    """Trajectories printed at the end."""

    def __post_init__(self):
        _at_least(self, 0, "every", "limit", "num_printed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written besides metrics.jsonl, eval.jsonl and the console."""

    wandb: Literal["offline", "online", "disabled"] = "offline"
    tensorboard: bool = False
    rollouts_every: int = 10
    """Steps between files of rollouts; 0: none."""

    def __post_init__(self):
        _at_least(self, 0, "rollouts_every")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the run can be taken up again."""

    every: int = 10
    """Steps. Stages of fewer than 10 steps save every step."""
    keep: int = 2
    """Checkpoints that are kept, the latest first."""

    def __post_init__(self):
        _at_least(self, 1, "every", "keep")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: its policy, data, retrieval, rollouts and stages."""

    model: ModelConfig
    data: DataConfig
    retrieval: RetrievalConfig = RetrievalConfig()
    rollout: RolloutConfig = RolloutConfig()
    stages: tuple[SupervisedStage | RLStage, ...]
    """Carried out in order, each with a fresh optimizer."""
    guards: GuardConfig = GuardConfig()
    eval: EvalConfig = EvalConfig()
    logging: LoggingConfig = LoggingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshShape = MeshShape()
    seed: int = 0
    """Of everything: worlds, weights, order of questions, sampling."""
    steps: int | None = None
    """At most so many steps in each RL stage; schedules keep their full length."""
    warmup_steps: int | None = None
    """At most so many steps in each supervised stage, likewise."""
    out: str = ""
    """Run folder; empty: runs/<name of the config file>."""

    def __post_init__(self):
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"stages need distinct names, at least one; got {names}")
        protocols = [s.task.protocol for s in self.stages if isinstance(s, RLStage)]
        if any(protocol != protocols[0] for protocol in protocols):
            raise ValueError(
                "the RL stages of a run share one protocol, got "
                f"{[protocol.name for protocol in protocols]}"
            )
        for stage in self.stages:
            if isinstance(stage, RLStage):
                if stage.overlong_buffer >= self.rollout.max_len:
                    raise ValueError(
                        f"overlong_buffer ({stage.overlong_buffer}) must be less than "
                        f"rollout.max_len ({self.rollout.max_len})"
                    )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in 0..2^31-1, got {self.seed}")
        for name in ("steps", "warmup_steps"):
            value = {"steps": self.steps, "warmup_steps": self.warmup_steps}[name]
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def task(self) -> Task:
        """The task that held-out questions are judged by: the last RL stage's."""
        tasks = [s.task for s in self.stages if isinstance(s, RLStage)]
        return tasks[-1] if tasks else self.stages[-1].task

    def num_steps(self, stage: SupervisedStage | RLStage) -> int:
        """Steps of a stage under the limits of this run."""
        is_rl = isinstance(stage, RLStage)
        limit = self.steps if is_rl else self.warmup_steps
        return stage.steps if limit is None else min(stage.steps, limit)
