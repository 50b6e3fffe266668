"""jaxsearch trains language models to search, by reinforcement learning.

The names below are the public API; `help(jaxsearch.rollout)` describes one of them,
with an example. They are imported on first use, so that `import jaxsearch` is instant.
None of this needs a config file or writes files:

    import jaxsearch

    policy = jaxsearch.load_policy("Qwen/Qwen2.5-0.5B-Instruct")
    passages = ["Vasdib is a city led by Parruk.", "Parruk was born in Zegbol."]
    asked = [("Where was the mayor of Vasdib born?", "Zegbol")]
    trajectories = jaxsearch.rollout(policy, asked, retriever=passages)
    trajectories[0]  # Jupyter shows who wrote what in colour
    jaxsearch.score(trajectories)  # rewards, by term

    trainer = jaxsearch.Trainer(policy, retriever=passages, group_size=8)
    metrics = trainer.step(asked)  # one update with GRPO
    jaxsearch.evaluate(trainer.policy, asked, retriever=passages)

Functions, and the class that trains:

    load_policy       a Hugging Face folder or Hub id, a run, or random weights
    load_retriever    texts, a corpus file, an index, a server, or an object of yours
    load_dataset      questions and passages that come with the package
    load_task         prompt, tags and reward of a system, by name
    read_questions    the questions of a file
    rollout           answers of a policy that searches, as trajectories
    score             the reward of trajectories
    logprobs          their log-probs, as the trainer computes them
    evaluate          exact match and more on questions with golden answers
    Trainer           reinforcement learning, step by step
    imitate           supervised training on demonstrations, for a warm start
    FunctionTool      a function as a tool that the policy can call
    LiveCurve         metrics of steps, drawn in a notebook while they come
    shard             a policy on a mesh of devices
    trust             allows folders to name code of a package of yours

A run in a folder, with checkpoints and a report, has a config. `read_config` reads one
(or write a `RunConfig`), `jaxsearch.train.train` runs it, and `load_run`, `ask`,
`evaluate_to` and `export_run` use the run, with `RunOptions` and `AnswerOptions`.

What you may replace, and what it does:

    Retriever         searches for batches of queries, and answers with `Hit`s
    Task, Protocol    a prompt format with its reward, and its tags
    Environment       tools that answer the policy; `Tools` combines several
    Dataset           questions and passages of a source of your own

Glossary, with one word for one thing:

    rollout       a policy's text for one question, with the results of its tool calls
    trajectory    a finished rollout: tokens, provenance, log-probs, tool calls
    turn          text that the policy writes until it calls a tool or ends
    observation   text that a tool adds to the context
    group         the G rollouts of one question
    task          prompt format, reward and answer normaliser of one system
    stage         part of a run with a separate optimizer: supervised or RL

Axes, with the same letters in all modules:

    Q questions        G answers per question (a group)   B rows (Q * G) or slots
    T tokens in a row  S cache positions                  P passages
    V vocabulary       D model width                      F MLP width
    N query heads      K key/value heads                  H head width
    L layers           R rows selected by an index        M rows of a microbatch

Masks are boolean and named `is_*` or `has_*`; True means that the element counts.

Units: log-probs and KL are in nats, lengths (`*_len`) in tokens, times in seconds,
rewards in units of 1.0 for an exact match.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# ruff: noqa: F401 - for editors and type checkers; `__getattr__` imports at runtime.
if TYPE_CHECKING:
    from jaxsearch.api.datasets import load_dataset
    from jaxsearch.api.imitation import imitate
    from jaxsearch.api.judging import load_task, score
    from jaxsearch.api.loading import load_policy
    from jaxsearch.api.logprobs import logprobs
    from jaxsearch.api.policy import Policy, shard
    from jaxsearch.api.retrieval import load_retriever
    from jaxsearch.api.rollout import evaluate, rollout
    from jaxsearch.api.trainer import Trainer
    from jaxsearch.config import (
        CheckpointConfig,
        DataConfig,
        EvalConfig,
        LoggingConfig,
        ModelConfig,
        RetrievalConfig,
        RLStage,
        RolloutConfig,
        RunConfig,
        SupervisedStage,
    )
    from jaxsearch.data.dataset import Dataset
    from jaxsearch.data.demonstrations import Demonstration
    from jaxsearch.data.formats import read_questions
    from jaxsearch.data.question import Question
    from jaxsearch.env.environment import Done, Environment, Observation
    from jaxsearch.env.function_tool import FunctionTool
    from jaxsearch.env.tools import Tools
    from jaxsearch.evaluation.ask import ask
    from jaxsearch.evaluation.options import AnswerOptions
    from jaxsearch.evaluation.results import evaluate_to
    from jaxsearch.mesh import MeshShape
    from jaxsearch.models.architecture import Architecture
    from jaxsearch.models.lora import LoRAConfig
    from jaxsearch.protocol import Protocol
    from jaxsearch.report.live_curve import LiveCurve
    from jaxsearch.rewards.outcome import Outcome
    from jaxsearch.rewards.tasks import Task
    from jaxsearch.rl.objectives import PolicyObjective
    from jaxsearch.rl.optimizer import OptimizerConfig
    from jaxsearch.rollouts.timeline import Timeline
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.export import export_run
    from jaxsearch.run.loading import load_run
    from jaxsearch.run.options import RunOptions
    from jaxsearch.run.trust import trust
    from jaxsearch.search.index import Hit, Retriever
    from jaxsearch.search.passages import Passage
    from jaxsearch.trajectory import Segment, ToolCall, Trajectory

__version__ = "0.1.0"

# Otherwise transformers, of which this package uses the tokenizers, says when it is
# imported that PyTorch is not installed.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

_MODULES = {
    "AnswerOptions": "jaxsearch.evaluation.options",
    "Architecture": "jaxsearch.models.architecture",
    "CheckpointConfig": "jaxsearch.config",
    "DataConfig": "jaxsearch.config",
    "Dataset": "jaxsearch.data.dataset",
    "Demonstration": "jaxsearch.data.demonstrations",
    "Done": "jaxsearch.env.environment",
    "Environment": "jaxsearch.env.environment",
    "EvalConfig": "jaxsearch.config",
    "FunctionTool": "jaxsearch.env.function_tool",
    "Hit": "jaxsearch.search.index",
    "LiveCurve": "jaxsearch.report.live_curve",
    "LoRAConfig": "jaxsearch.models.lora",
    "LoggingConfig": "jaxsearch.config",
    "MeshShape": "jaxsearch.mesh",
    "ModelConfig": "jaxsearch.config",
    "Observation": "jaxsearch.env.environment",
    "OptimizerConfig": "jaxsearch.rl.optimizer",
    "Outcome": "jaxsearch.rewards.outcome",
    "Passage": "jaxsearch.search.passages",
    "Policy": "jaxsearch.api.policy",
    "PolicyObjective": "jaxsearch.rl.objectives",
    "Protocol": "jaxsearch.protocol",
    "Question": "jaxsearch.data.question",
    "RLStage": "jaxsearch.config",
    "RetrievalConfig": "jaxsearch.config",
    "Retriever": "jaxsearch.search.index",
    "RolloutConfig": "jaxsearch.config",
    "RunConfig": "jaxsearch.config",
    "RunOptions": "jaxsearch.run.options",
    "Segment": "jaxsearch.trajectory",
    "SupervisedStage": "jaxsearch.config",
    "Task": "jaxsearch.rewards.tasks",
    "Timeline": "jaxsearch.rollouts.timeline",
    "ToolCall": "jaxsearch.trajectory",
    "Tools": "jaxsearch.env.tools",
    "Trainer": "jaxsearch.api.trainer",
    "Trajectory": "jaxsearch.trajectory",
    "ask": "jaxsearch.evaluation.ask",
    "evaluate": "jaxsearch.api.rollout",
    "evaluate_to": "jaxsearch.evaluation.results",
    "export_run": "jaxsearch.run.export",
    "imitate": "jaxsearch.api.imitation",
    "load_dataset": "jaxsearch.api.datasets",
    "load_policy": "jaxsearch.api.loading",
    "load_retriever": "jaxsearch.api.retrieval",
    "load_run": "jaxsearch.run.loading",
    "load_task": "jaxsearch.api.judging",
    "logprobs": "jaxsearch.api.logprobs",
    "read_config": "jaxsearch.run.config_file",
    "read_questions": "jaxsearch.data.formats",
    "rollout": "jaxsearch.api.rollout",
    "score": "jaxsearch.api.judging",
    "shard": "jaxsearch.api.policy",
    "trust": "jaxsearch.run.trust",
}
# Functions first, as in the documents.
__all__ = sorted(_MODULES, key=str.swapcase)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxsearch' has no attribute {name!r}")
    value = vars(importlib.import_module(_MODULES[name]))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
