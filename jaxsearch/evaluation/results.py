"""Evaluation of a policy on a file of questions, written to a folder."""

import math
from pathlib import Path
from typing import Any

from jaxsearch.data.records import SUFFIXES
from jaxsearch.evaluation.evaluate import evaluate
from jaxsearch.evaluation.predictions import is_new
from jaxsearch.hub_files import pinned
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.loading import is_run, load_run


def evaluate_to(
    out: Path,
    *,
    model: str,
    questions: str = "",
    index: str = "",
    task: str = "",
    limit: int = 0,
    skip_bad_rows: bool = False,
    drop_long_prompts: bool = False,
    temperature: float = 0.0,
    prompt_template: str = "",
    checkpoint: str = "",
) -> dict[str, Any]:
    """Evaluates a policy and writes `results.json` and `predictions.jsonl` to `out`.

    Args:
      out: folder to write; it must be empty or not exist.
      model: a run's folder, a Hugging Face folder, or a Hugging Face id.
      questions: file of questions, local or `hf://OWNER/NAME[/FILE][@REVISION]`; ""
        for the run's held-out questions.
      index: folder of an index, or address of a search server; "" for the run's index.
      task: name of the task that judges; "" for the run's task.
      limit: number of questions, from the first; 0 for all.
      skip_bad_rows: whether to go on without malformed rows of the file.
      drop_long_prompts: whether to go on without questions with too long prompts.
      temperature: sampling temperature; 0 is greedy.
      prompt_template: file with a prompt that replaces the task's; "" for none.
      checkpoint: best, last or a step, as in `run.loading.load_run`.

    Returns:
      The contents of `results.json`.

    Raises:
      ValueError: if there are no questions, `out` is not empty, or the policy cannot
        be loaded.

    Example:
      >>> from pathlib import Path
      >>> results = jaxsearch.evaluate_to(
      ...     Path("evaluation"), model="runs/quickstart", limit=2
      ... )
      >>> results["n"], sorted(path.name for path in Path("evaluation").iterdir())
      (2, ['predictions.jsonl', 'results.json'])
    """
    if not is_new(out):
        raise ValueError(f"{out} is not empty; --out names a new folder")
    if limit < 0 or not 0 <= temperature < math.inf:
        raise ValueError(
            "--limit and --temperature must be finite and not negative, got "
            f"{limit} and {temperature}"
        )
    questions = pinned(questions, SUFFIXES)
    run, params = load_run(
        model,
        task=task,
        questions=questions,
        index=index,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
        drop_long_prompts=drop_long_prompts,
        prompt_template=prompt_template,
        checkpoint=checkpoint,
    )
    if not run.inputs.heldout:
        raise ValueError(
            f"{model} has no held-out questions: give a file with --questions"
        )
    found = evaluate(
        run.sampler,
        params,
        run.inputs.heldout,
        run.environments.heldout,
        run.task,
        temperature=temperature,
    )
    chosen = {}
    if is_run(model):
        chosen["checkpoint"] = choose_checkpoint(run.config, checkpoint).description
    results = {
        "model": model,
        **chosen,
        "recipe": run.task.name,
        "questions": questions or "the run's own",
        **found.results,
    }
    found.save(out, results)
    return results
