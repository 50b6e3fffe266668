"""A served model with the inputs and tools of an evaluation, without parameters."""

import dataclasses
import functools
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.env.prompts import ANY_QUESTION, prompt_ids
from jaxsearch.processes import say_once
from jaxsearch.rewards.tasks import Task
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.run.environments import Environments
from jaxsearch.run.inputs import Inputs, load_inputs
from jaxsearch.run.loading import explained_long_prompts, is_run
from jaxsearch.run.options import NO_CHANGES, RunOptions, with_options
from jaxsearch.run.prompting import with_opened
from jaxsearch.run.sampler import rollout_budgets
from jaxsearch.served.check import check_server
from jaxsearch.served.client import ModelClient, model_url
from jaxsearch.served.completions import RequestFields
from jaxsearch.served.model import ServedModel, served_config, within
from jaxsearch.served.model_list import find_model
from jaxsearch.served.sampler import ServedSampler


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ServedRun:
    """A config with its inputs and tools, and a served model instead of a network.

    Replaces `run.build.Run` for rollouts.

    Attributes:
      config: the config, with budgets that fit the model.
      inputs: questions, passages and tokenizer.
      model: the model, as given by the user.
      name: name of the model on its server.
      client: the client of the server.
      fields: the request fields that the server accepts.
      has_ids: whether the answer to the check had the sampled ids.
      environments: the tools that answer the model.
    """

    config: RunConfig
    inputs: Inputs
    environments: Environments
    model: ServedModel
    name: str
    client: ModelClient
    fields: RequestFields
    has_ids: bool

    @property
    def task(self) -> Task:
        """The task that judges answers."""
        return self.config.task

    @functools.cached_property
    def sampler(self) -> ServedSampler:
        """Rolls out questions through the server."""
        return ServedSampler(
            self.client,
            self.fields,
            rollout_budgets(self.config.rollout),
            self.inputs.protocol,
            self.inputs.tokenizer,
            seed=self.config.seed,
            note=say_once,
        )

    @property
    def single_sampler(self) -> ServedSampler:
        """Returns itself: nothing is compiled for a number of rollouts."""
        return self.sampler

    def rollout_params(self, params: Any) -> Any:
        """The parameters for the sampler: none, the server has them."""
        return params


def load_served(model: ServedModel, options: RunOptions = NO_CHANGES) -> ServedRun:
    """Opens a served model with the inputs that an evaluation of it needs.

    Args:
      model: the model.
      options: as in `run.loading.load_run`; the default is the run's value if the
        tokenizer is a run's folder.

    Raises:
      ValueError: see `open_served`.
    """
    config = with_options(served_config(model, options.task), options)
    return open_served(model, config)


def open_served(model: ServedModel, config: RunConfig) -> ServedRun:
    """Reads the inputs of a config, and checks the server with a first prompt.

    Args:
      model: the model.
      config: from `served_config`, with the user's options.

    Raises:
      ValueError: for the first invalid input, or if the server cannot be used: it has
        only chat, lacks the model, or its model has another tokenizer.
    """
    client = ModelClient(model_url(model.url), model.settings)
    card = find_model(client, model.name)
    if card.max_len is not None and card.max_len < config.rollout.max_len:
        say_once(
            f"{client.url} takes at most {card.max_len} tokens (max_model_len), so "
            f"rollouts end there and not at {config.rollout.max_len}"
        )
        budgets = within(config.rollout, card.max_len, is_run(model.tokenizer))
        config = dataclasses.replace(config, rollout=budgets)
    with explained_long_prompts(config):
        inputs = load_inputs(config)
    config = with_opened(config, inputs.protocol.opened)
    rollout = config.rollout
    environments = Environments(config, inputs)
    fields = RequestFields(
        model=card.name,
        stop=environments.stop_tags,
        truncation=TopKTopP(top_k=rollout.top_k, top_p=rollout.top_p),
        logprobs=model.logprobs,
    )
    asked = [q for questions in inputs.questions.values() for q in questions[:1]]
    asked += inputs.heldout[:1]
    text = asked[0].question if asked else ANY_QUESTION
    prompt = prompt_ids(inputs.tokenizer, inputs.protocol, text)
    found = check_server(client, fields, inputs.tokenizer, prompt, say_once)
    return ServedRun(
        config=config,
        inputs=inputs,
        environments=environments,
        model=model,
        name=card.name,
        client=client,
        fields=found.fields,
        has_ids=found.has_ids,
    )
