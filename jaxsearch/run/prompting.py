"""The policy's side of a run: its tokenizer, its protocol and its prompts."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxsearch.config import ModelConfig, RunConfig
from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.prompts import opened_tags, plain_question
from jaxsearch.processes import say_once
from jaxsearch.protocol import Protocol
from jaxsearch.protocol.template import PromptTemplate, read_template
from jaxsearch.run.warm_start import origin_tokenizer, weights_model


def load_prompting(
    config: RunConfig, tokenizer: Tokenizer | None
) -> tuple[Tokenizer, Protocol]:
    """The tokenizer and the protocol of a run, whose prompts agree with its task.

    This is the one place that finds out which tags prompts open.

    Args:
      config: the run's config.
      tokenizer: the tokenizer of its dataset, if it has one.

    Raises:
      ValueError: if there is no tokenizer, a file is malformed, or the prompt
        contradicts the tokenizer or the task.
    """
    template = None
    if config.model.prompt_template:
        template = read_template(config.model.prompt_template)
    model = weights_model(config.model)
    _check_model_folder(model.path)
    if config.model.path and not model.path:
        tokenizer = origin_tokenizer(config.model)
    if model.tokenizer or model.path:
        tokenizer = Tokenizer.load(
            model.tokenizer or model.path,
            model=model.path,
            end_token=model.end_token,
            prompt=config.model.prompt if template is None else template.form,
            date=config.model.prompt_date,
        )
    if tokenizer is None:
        raise ValueError(
            "this run needs a tokenizer: set --model.tokenizer to its folder "
            "(or --model.path to a whole model)"
        )
    return tokenizer, _protocol(config, tokenizer, template)


def run_protocol(config: RunConfig, tokenizer: Tokenizer) -> Protocol:
    """The protocol of a run whose tokenizer is known already.

    Raises:
      ValueError: as in `load_prompting`.
    """
    path = config.model.prompt_template
    return _protocol(config, tokenizer, read_template(path) if path else None)


def _protocol(
    config: RunConfig, tokenizer: Tokenizer, template: PromptTemplate | None
) -> Protocol:
    """The protocol of the config's task, with its prompt and what the prompt opens."""
    protocol = config.task.protocol
    if template is not None:
        _check_form(template, tokenizer, config.model)
        protocol = dataclasses.replace(protocol, template=template)
    return protocol.with_opened(opened_tags(tokenizer, protocol))


def with_opened(config: RunConfig, opened: str) -> RunConfig:
    """The config whose tasks count the tags that prompts have opened."""
    if not opened:
        return config
    # A supervised stage may have a task with other tags, which is not used.
    stages = (
        dataclasses.replace(stage, task=stage.task.with_opened(opened))
        if stage.task.protocol.think.open == opened
        else stage
        for stage in config.stages
    )
    return dataclasses.replace(config, stages=tuple(stages))


def report_special_tokens(
    tokenizer: Tokenizer, questions: Sequence[Question]
) -> list[str]:
    """Says on standard error how many questions spell special tokens.

    Returns:
      The texts of the questions without these tokens, as prompts have them.
    """
    found = [plain_question(tokenizer, q.question) for q in questions]
    changed = [q.id for q, (_, num) in zip(questions, found, strict=True) if num]
    if changed:
        say_once(
            f"{len(changed)} of {len(questions)} questions spell special tokens of the "
            f"tokenizer, such as question {changed[0]!r:.80}; they are left out of the "
            f"prompts ({sum(num for _, num in found)} in all)"
        )
    return [text for text, _ in found]


def report_system_role(tokenizer: Tokenizer, protocol: Protocol) -> None:
    """Says on standard error if instructions are not in a system message."""
    roles = {message["role"] for message in protocol.messages("")}
    is_chat = tokenizer.has_chat_prompt and "system" in roles
    if is_chat and not tokenizer.takes_system:
        say_once(
            "the chat template does not write system messages; their text is at the "
            "beginning of the user message"
        )


def _check_model_folder(path: str) -> None:
    """Checks that a local folder may be a model's; other names may be Hub ids.

    Raises:
      ValueError: if it is not.
    """
    if path and Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path} is neither a run's folder nor a Hugging Face folder")


def _check_form(
    template: PromptTemplate, tokenizer: Tokenizer, model: ModelConfig
) -> None:
    """Checks that a prompt template matches the tokenizer and the config.

    Raises:
      ValueError: if it does not.
    """
    if model.prompt not in ("auto", template.form):
        raise ValueError(
            f"{model.prompt_template} is a prompt of form {template.form!r}, but "
            f"model.prompt is {model.prompt!r}; set --model.prompt {template.form}"
        )
    if tokenizer.has_chat_prompt != template.is_chat:
        raise ValueError(
            f"{model.prompt_template} is a prompt of form {template.form!r}, which "
            "this run's tokenizer does not support; set another with --model.tokenizer"
        )
