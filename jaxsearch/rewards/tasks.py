"""The tasks of ReSearch, R1-Searcher and Search-R1, baselines, and a lookup by name."""

import dataclasses
import difflib

from jaxsearch import protocol
from jaxsearch.rewards import r1_searcher, research, search_r1
from jaxsearch.rewards.answers import normalise_r1_searcher, normalise_research
from jaxsearch.rewards.contract import Task
from jaxsearch.rewards.outcome import RewardError
from jaxsearch.user_code import error_text, import_named

__all__ = ["TASKS", "RewardError", "Task", "task_named"]

RESEARCH = Task(
    name="research",
    protocol=protocol.RESEARCH,
    reward=research.research,
    reward_of_text=research.research_text,
    uses_end=True,
    normalise=normalise_research,
)
RESEARCH_PAPER = dataclasses.replace(
    RESEARCH,
    name="research_paper",
    reward=research.research_paper,
    reward_of_text=research.research_paper_text,
    uses_end=False,
)
R1_SEARCHER_STAGE1 = Task(
    name="r1_searcher_stage1",
    protocol=protocol.R1_SEARCHER,
    reward=r1_searcher.r1_searcher_stage1,
    reward_of_text=r1_searcher.r1_searcher_stage1_text,
    uses_end=False,
    normalise=normalise_r1_searcher,
)
R1_SEARCHER_STAGE2 = dataclasses.replace(
    R1_SEARCHER_STAGE1,
    name="r1_searcher_stage2",
    reward=r1_searcher.r1_searcher_stage2,
    reward_of_text=r1_searcher.r1_searcher_stage2_text,
)
R1_SEARCHER_QWEN = dataclasses.replace(
    R1_SEARCHER_STAGE1,
    name="r1_searcher_qwen",
    reward=r1_searcher.r1_searcher_qwen,
    reward_of_text=r1_searcher.r1_searcher_qwen_text,
)
R1_SEARCHER_LLAMA_STAGE1 = dataclasses.replace(
    R1_SEARCHER_STAGE1,
    name="r1_searcher_llama_stage1",
    reward=r1_searcher.r1_searcher_llama_stage1,
    reward_of_text=r1_searcher.r1_searcher_llama_stage1_text,
)
R1_SEARCHER_LLAMA_STAGE2 = dataclasses.replace(
    R1_SEARCHER_STAGE1,
    name="r1_searcher_llama_stage2",
    reward=r1_searcher.r1_searcher_llama_stage2,
    reward_of_text=r1_searcher.r1_searcher_llama_stage2_text,
)
SEARCH_R1 = Task(
    name="search_r1",
    protocol=protocol.SEARCH_R1,
    reward=search_r1.search_r1,
    reward_of_text=search_r1.search_r1_text,
    uses_end=False,
    normalise=normalise_research,
)
SEARCH_R1_FORMAT = dataclasses.replace(
    SEARCH_R1,
    name="search_r1_format",
    reward=search_r1.search_r1_format,
    reward_of_text=search_r1.search_r1_format_text,
)
DIRECT = dataclasses.replace(SEARCH_R1, name="direct", protocol=protocol.DIRECT)
RETRIEVE_THEN_READ = dataclasses.replace(
    SEARCH_R1, name="retrieve_then_read", protocol=protocol.RETRIEVE_THEN_READ
)
ITERATIVE = dataclasses.replace(
    SEARCH_R1, name="iterative", protocol=protocol.ITERATIVE
)
QUICKSTART = dataclasses.replace(
    RESEARCH, name="quickstart", protocol=protocol.QUICKSTART
)
QUICKSTART_R1_SEARCHER_STAGE1 = dataclasses.replace(
    R1_SEARCHER_STAGE1,
    name="quickstart_r1_searcher_stage1",
    protocol=protocol.QUICKSTART_R1_SEARCHER,
)
QUICKSTART_R1_SEARCHER_STAGE2 = dataclasses.replace(
    R1_SEARCHER_STAGE2,
    name="quickstart_r1_searcher_stage2",
    protocol=protocol.QUICKSTART_R1_SEARCHER,
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(RESEARCH, RESEARCH_PAPER),
        *(R1_SEARCHER_STAGE1, R1_SEARCHER_STAGE2),
        *(R1_SEARCHER_QWEN, R1_SEARCHER_LLAMA_STAGE1, R1_SEARCHER_LLAMA_STAGE2),
        *(SEARCH_R1, SEARCH_R1_FORMAT),
        *(DIRECT, RETRIEVE_THEN_READ, ITERATIVE),
        QUICKSTART,
        *(QUICKSTART_R1_SEARCHER_STAGE1, QUICKSTART_R1_SEARCHER_STAGE2),
    )
}


def task_named(name: str) -> Task:
    """The task with this name, or a custom task at `package.module:NAME`.

    The module may also be a file, as in `path/to/file.py:NAME`. A `Task` in any
    importable module can be used in training, `eval` and `score`.

    Raises:
      ValueError: if there is none; the error suggests similar names, or describes what
        the module lacks.
    """
    if name in TASKS:
        return TASKS[name]
    if ":" in name:
        return _imported(name)
    near = difflib.get_close_matches(name, TASKS)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
        f"unknown task {name!r:.100}; {hint}expected one of {', '.join(TASKS)}, or "
        "package.module:NAME or path/to/file.py:NAME of a custom task"
    )


def _imported(name: str) -> Task:
    module_name, _, attribute = name.rpartition(":")
    try:
        module = import_named(module_name)
    except ImportError as error:
        raise ValueError(
            f"task {name!r}: cannot import {module_name} ({error}); its folder must "
            "be the current one or on PYTHONPATH"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"task {name!r}: cannot import {module_name!r}: {error_text(error)}"
        ) from error
    task = vars(module).get(attribute)
    if not isinstance(task, Task):
        raise ValueError(
            f"task {name!r}: expected a Task called {attribute} in {module_name}, "
            f"got {type(task).__name__}"
        )
    return task
