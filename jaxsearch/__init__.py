"""jaxsearch trains language models to search, by reinforcement learning.

The names below are the public API. They are imported on first use, so that
`import jaxsearch` is instant. The training loop is `jaxsearch.train.train`.

    import jaxsearch
    from jaxsearch.train import train

    config = jaxsearch.read_config("configs/quickstart.py")
    train(config)
    run, params = jaxsearch.load_run("runs/quickstart")
    question = run.inputs.heldout[0].question
    trajectory, outcome = jaxsearch.ask(run, params, question)

Glossary
  rollout       a policy's text for one question, with the results of its tool calls
  trajectory    a finished rollout: tokens, provenance, log-probs, tool calls
  turn          text that the policy writes until it calls a tool or ends
  observation   text that a tool adds to the context
  group         the G rollouts of one question
  task          prompt format, reward and answer normaliser of one system
  stage         part of a run with a separate optimizer: supervised or RL

Axes, with the same letters in all modules
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
from typing import TYPE_CHECKING, Any

# ruff: noqa: F401 - for editors and type checkers; `__getattr__` imports at runtime.
if TYPE_CHECKING:
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
    from jaxsearch.data.formats import Question
    from jaxsearch.env.environment import Done, Environment, Observation
    from jaxsearch.env.tools import Tools
    from jaxsearch.evaluation.ask import ask
    from jaxsearch.evaluation.results import evaluate_to
    from jaxsearch.protocol import Protocol
    from jaxsearch.rewards.outcome import Outcome
    from jaxsearch.rewards.tasks import Task
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.export import export_run
    from jaxsearch.run.loading import load_run
    from jaxsearch.search.index import Hit, Retriever
    from jaxsearch.search.passages import Passage
    from jaxsearch.trajectory import Segment, ToolCall, Trajectory

__version__ = "0.1.0"

_MODULES = {
    "CheckpointConfig": "jaxsearch.config",
    "DataConfig": "jaxsearch.config",
    "Dataset": "jaxsearch.data.dataset",
    "Done": "jaxsearch.env.environment",
    "Environment": "jaxsearch.env.environment",
    "EvalConfig": "jaxsearch.config",
    "Hit": "jaxsearch.search.index",
    "LoggingConfig": "jaxsearch.config",
    "ModelConfig": "jaxsearch.config",
    "Observation": "jaxsearch.env.environment",
    "Outcome": "jaxsearch.rewards.outcome",
    "Passage": "jaxsearch.search.passages",
    "Protocol": "jaxsearch.protocol",
    "Question": "jaxsearch.data.formats",
    "RLStage": "jaxsearch.config",
    "Retriever": "jaxsearch.search.index",
    "RetrievalConfig": "jaxsearch.config",
    "RolloutConfig": "jaxsearch.config",
    "RunConfig": "jaxsearch.config",
    "Segment": "jaxsearch.trajectory",
    "SupervisedStage": "jaxsearch.config",
    "Task": "jaxsearch.rewards.tasks",
    "ToolCall": "jaxsearch.trajectory",
    "Tools": "jaxsearch.env.tools",
    "Trajectory": "jaxsearch.trajectory",
    "ask": "jaxsearch.evaluation.ask",
    "evaluate_to": "jaxsearch.evaluation.results",
    "export_run": "jaxsearch.run.export",
    "load_run": "jaxsearch.run.loading",
    "read_config": "jaxsearch.run.config_file",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxsearch' has no attribute {name!r}")
    value = vars(importlib.import_module(_MODULES[name]))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
