"""Data sets of the Hub in a config: which commit of them a run reads."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from jaxsearch import processes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.data.mixture import Mixture, QuestionsFrom, parse_questions
from jaxsearch.data.records import SUFFIXES
from jaxsearch.hub_files import hub_file, is_hub_file, pinned
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.heldout_split import has_started
from jaxsearch.search.corpus_files import CORPUS_SUFFIXES


def with_commits(config: RunConfig) -> RunConfig:
    """The config with addresses `hf://OWNER/NAME/FILE@COMMIT` of its data on the Hub.

    So the run's record names what was read. A run that resumes reads the commits of its
    record, unless the config names a revision.

    Raises:
      ValueError: if a file cannot be fetched.
    """
    addresses = [path for path in map(str, _paths(config)) if is_hub_file(path)]
    if not addresses:
        return config
    before: dict[str, str] = {}
    if has_started(config):
        recorded = _paths(read_run_config(Path(config.out)))
        if len(recorded) == len(_paths(config)):
            before = dict(zip(_paths(config), recorded, strict=True))

    def commit(path: str, suffixes: tuple[str, ...]) -> str:
        then = before.get(path, "")
        if is_hub_file(path) and is_hub_file(then):
            if hub_file(path).may_be(hub_file(then)):
                return then
        return pinned(path, suffixes)

    # The processes of a run read the same commit, even if there is a new one just now.
    if processes.is_primary():
        config = _mapped(config, commit)
    return _mapped_to(config, processes.broadcast_from_primary(_paths(config)))


def _paths(config: RunConfig) -> list[str]:
    """The paths of all files of questions and passages, in order."""
    found: list[str] = []

    def keep(path: str, _: tuple[str, ...]) -> str:
        found.append(path)
        return path

    _mapped(config, keep)
    return found


def _mapped_to(config: RunConfig, paths: list[str]) -> RunConfig:
    """The config with other paths, in the order of `_paths`."""
    rest = iter(paths)
    return _mapped(config, lambda *_: next(rest))


def _mapped(
    config: RunConfig, change: Callable[[str, tuple[str, ...]], str]
) -> RunConfig:
    """The config with every path changed, given the suffixes of its files."""

    def changed(questions: QuestionsFrom) -> QuestionsFrom:
        if isinstance(questions, str):
            questions = parse_questions(questions)
        if isinstance(questions, str):
            return change(questions, SUFFIXES)
        return Mixture(
            sources=tuple(
                dataclasses.replace(source, path=change(source.path, SUFFIXES))
                for source in questions.sources
            )
        )

    data = dataclasses.replace(
        config.data,
        questions=changed(config.data.questions),
        heldout=changed(config.data.heldout),
    )
    stages = tuple(
        dataclasses.replace(stage, questions=changed(stage.questions))
        if isinstance(stage, RLStage)
        else stage
        for stage in config.stages
    )
    corpus = change(config.retrieval.corpus, CORPUS_SUFFIXES)
    retrieval = dataclasses.replace(config.retrieval, corpus=corpus)
    return dataclasses.replace(config, data=data, stages=stages, retrieval=retrieval)
