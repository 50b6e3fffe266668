"""The policy that an evaluation is of, with its tools, its task and its identity."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import ANY_QUESTION, prompt_ids
from jaxsearch.env.token_environment import TokenEnvironment
from jaxsearch.evaluation.evaluate import RolloutSampler
from jaxsearch.models.transformer import Params
from jaxsearch.protocol import Protocol
from jaxsearch.rewards.tasks import Task
from jaxsearch.run.build import Run
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.config_record import identity
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.loading import is_run
from jaxsearch.served.run import ServedRun

# Config fields that affect the rollouts, apart from those that are fingerprinted.
_FIELDS = ("seed", "retrieval", "rollout", "environment")
# Fields of `rollout` that affect only speed.
_NOT_DECIDING = ("num_slots", "cache_len", "search_calls", "replicas", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A policy to evaluate, with its tools and its task.

    Attributes:
      sampler: samples the rollouts.
      params: parameters of the policy, in the sampler's layout.
      environment: the tools that answer the policy.
      task: judges the rollouts.
      labels: name of the model and other lines for `results.json`, as JSON values.
      identity: everything that determines the rollouts, as JSON values; an evaluation
        continues only in a folder with the same values.
    """

    sampler: RolloutSampler
    params: Params
    environment: TokenEnvironment
    task: Task
    labels: Mapping[str, Any]
    identity: Mapping[str, Any]


def run_subject(
    run: Run, params: Params, model: str, checkpoint: str, num_rollouts: int
) -> Subject:
    """A policy that `load_run` has loaded, with the run's tools and task.

    Args:
      run: the run.
      params: parameters in the layout of rollouts.
      model: what the user called the policy.
      checkpoint: best, last or a step, as in `load_run`.
      num_rollouts: number of rollouts; limits the number of slots.
    """
    labels = {"model": model}
    if is_run(model):
        labels["checkpoint"] = choose_checkpoint(run.config, checkpoint).description
    return Subject(
        sampler=run.sampler_for(num_rollouts),
        params=params,
        environment=run.environments.heldout,
        task=run.task,
        labels=labels,
        identity={"policy": fingerprint(params), **_identity(run.config, run.inputs)},
    )


def served_subject(run: ServedRun) -> Subject:
    """A served model, with the tools and the task of its run."""
    tokenizer = run.inputs.tokenizer.fingerprint
    return Subject(
        sampler=run.sampler,
        params={},
        environment=run.environments.heldout,
        task=run.task,
        labels={
            "model": run.name,
            "model_url": run.client.url,
            "tokenizer": run.model.tokenizer,
            "ids": run.has_ids,
        },
        identity={
            "policy": f"{run.name} on a server, tokenizer {tokenizer}",
            **_identity(run.config, run.inputs),
        },
    )


def _identity(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Everything that determines the rollouts of a policy, as JSON values."""
    fields = identity(config)
    fields["rollout"] = {
        name: value
        for name, value in fields["rollout"].items()
        if name not in _NOT_DECIDING
    }
    retrieval = config.retrieval
    return {
        "prompt": _prompt_digest(inputs.tokenizer, inputs.protocol),
        "search_server": retrieval.heldout_url or retrieval.url,
        **{name: fields[name] for name in _FIELDS},
    }


def _prompt_digest(tokenizer: Tokenizer, protocol: Protocol) -> str:
    """A digest of the prompt and its tokenization, as 16 hex digits."""
    ids = prompt_ids(tokenizer, protocol, ANY_QUESTION)
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
