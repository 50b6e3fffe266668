"""Options for a policy that is evaluated, and the config that they change."""

import dataclasses
from pathlib import Path

from jaxsearch.config import RetrievalConfig, RLStage, RunConfig
from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.address import is_url
from jaxsearch.rewards.tasks import task_named
from jaxsearch.search.encoder import needs_given


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Changes to a run whose policy is evaluated; the defaults change nothing.

    Attributes:
      task: name of a task; "" for the run's task, or research.
      questions: files of questions, local or `hf://OWNER/NAME[/FILE][@REVISION]`;
        `NAME=FILE` names the set of a file. () for the run's held-out questions.
      index: folder of an index, or address of a search server; "" for the run's index.
      limit: questions per set, from the first; 0 for all.
      skip_bad_rows: whether to skip malformed rows of a file.
      drop_long_prompts: whether to drop questions whose prompts are too long.
      prompt_template: file with a prompt that replaces the task's; "" for none.
      num_passages: passages per search; 0 for the run's number.
      max_searches: calls of search and other tools per rollout; None for the run's
        number.

    Raises:
      ValueError: if `questions` is one text.

    Example:
      >>> jaxsearch.RunOptions(questions=("dev.jsonl",), limit=100).limit
      100
    """

    task: str = ""
    questions: tuple[str, ...] = ()
    index: str = ""
    limit: int = 0
    skip_bad_rows: bool = False
    drop_long_prompts: bool = False
    prompt_template: str = ""
    num_passages: int = 0
    max_searches: int | None = None

    def __post_init__(self):
        if isinstance(self.questions, str):
            raise ValueError(
                f"questions must be a tuple of files, such as ({self.questions!r},); "
                f"got {self.questions!r}"
            )


NO_CHANGES = RunOptions()


def with_options(config: RunConfig, options: RunOptions) -> RunConfig:
    """The config of a run with the options; the first file has its questions.

    Raises:
      ValueError: for an unknown task, or several files of questions.
    """
    if len(options.questions) > 1:
        raise ValueError(
            "a run has one file of held-out questions, got "
            f"{', '.join(options.questions)}; `evaluate_to` takes several"
        )
    config = _with_questions(config, options)
    if options.index:
        retrieval = with_index(config.retrieval, options.index)
        config = dataclasses.replace(config, retrieval=retrieval)
    if options.task:
        chosen = task_named(options.task)
        stages = tuple(
            dataclasses.replace(s, task=chosen, reward=None)
            if isinstance(s, RLStage)
            else s
            for s in config.stages
        )
        config = dataclasses.replace(config, stages=stages)
    if options.prompt_template:
        policy = dataclasses.replace(
            config.model, prompt_template=options.prompt_template
        )
        config = dataclasses.replace(config, model=policy)
    if options.num_passages:
        retrieval = dataclasses.replace(
            config.retrieval, num_passages=options.num_passages
        )
        config = dataclasses.replace(config, retrieval=retrieval)
    if options.max_searches is not None:
        rollout = dataclasses.replace(config.rollout, max_searches=options.max_searches)
        config = dataclasses.replace(config, rollout=rollout)
    return config


def _with_questions(config: RunConfig, options: RunOptions) -> RunConfig:
    """The config with the held-out questions of the options."""
    data = dataclasses.replace(
        config.data,
        heldout=options.questions[0] if options.questions else config.data.heldout,
        skip_bad_rows=options.skip_bad_rows or config.data.skip_bad_rows,
        # Dropping questions changes the evaluation, so it is only done on request.
        drop_long_prompts=options.drop_long_prompts
        or (not options.questions and config.data.drop_long_prompts),
    )
    limited = dataclasses.replace(config.eval, limit=options.limit)
    config = dataclasses.replace(config, data=data, eval=limited)
    return _without_training_files(config) if options.questions else config


def _without_training_files(config: RunConfig) -> RunConfig:
    """The config without the questions that a run was trained on.

    An evaluation on other questions does not need them. They may be many, have long
    prompts, or be on another machine.
    """
    stages = tuple(
        dataclasses.replace(stage, questions="")
        if isinstance(stage, RLStage)
        else stage
        for stage in config.stages
    )
    data = dataclasses.replace(config.data, questions="")
    return dataclasses.replace(config, data=data, stages=stages)


def with_index(retrieval: RetrievalConfig, index: str) -> RetrievalConfig:
    """The retrieval config with another index, or with the server of one.

    Held-out questions are answered from it too, also if they have passages of their
    own. An index includes its encoder, unless it was built with a custom one; then the
    encoder of the config is used. A server may have the user's keys.

    Args:
      retrieval: the config, which may come from a run's folder.
      index: folder of an index or address of a server, given by the user.
    """
    if is_url(index):
        allow_keys(index)
        return dataclasses.replace(
            retrieval,
            url=index,
            heldout_url=index,
            dialect="auto",
            index="",
            heldout_index="",
            corpus="",
            retriever=None,
            web=None,
        )
    folder = Path(index) / "encoder"
    keeps_value = not isinstance(retrieval.encoder, str) and needs_given(folder)
    return dataclasses.replace(
        retrieval,
        index=index,
        heldout_index=index,
        corpus="",
        retriever=None,
        url="",
        heldout_url="",
        web=None,
        encoder=retrieval.encoder if keeps_value else "tfidf",
    )
