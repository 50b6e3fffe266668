"""What a trained policy is for: to be evaluated, asked, exported."""

import json
from pathlib import Path
from typing import Any

from jaxsearch.data.formats import Question
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE, evaluate, prediction_line
from jaxsearch.json_lines import replace_file, replace_lines
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.run.adapter_folder import export_adapter
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.loading import is_run, latest_params, load_run, open_anywhere
from jaxsearch.run.policy import export


def evaluate_to(
    out: Path,
    *,
    model: str,
    questions: str,
    index: str,
    task: str,
    limit: int,
    temperature: float,
    prompt_template: str = "",
) -> dict[str, Any]:
    """Writes `results.json` and `predictions.jsonl`; returns the results.

    Errors: ValueError if there are no questions, or `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; --out names a new folder")
    if limit < 0 or temperature < 0:
        raise ValueError(
            f"--limit and --temperature must not be negative, got {limit} and "
            f"{temperature}"
        )
    run, params = load_run(
        model,
        task=task,
        questions=questions,
        index=index,
        limit=limit,
        prompt_template=prompt_template,
    )
    if not run.inputs.heldout:
        raise ValueError(
            f"{model} has no held-out questions of its own: name a file with "
            "--questions"
        )
    found = evaluate(
        run.sampler,
        params,
        run.inputs.heldout,
        run.heldout_observer,
        run.task,
        temperature=temperature,
    )
    results = {
        "model": model,
        "recipe": run.task.name,
        "questions": questions or "the run's own",
        **found.results,
    }
    out.mkdir(parents=True, exist_ok=True)
    lines = zip(found.trajectories, found.outcomes, found.scores, strict=True)
    replace_lines(out / "predictions.jsonl", (prediction_line(*line) for line in lines))
    replace_file(out / "results.json", json.dumps(results, indent=2).encode())
    return results


def ask(
    question: str,
    *,
    model: str,
    index: str,
    task: str = "",
    prompt_template: str = "",
) -> dict[str, Any]:
    """Prints how a policy answers one question, greedily."""
    run, params = load_run(
        model, task=task, index=index, prompt_template=prompt_template
    )
    asked = Question(id="asked", question=question, golden_answers=("(unknown)",))
    [trajectory], _ = run.sampler.run(
        params,
        [(0, asked)],
        run.heldout_observer,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=0.0,
    )
    print_trajectory(trajectory)
    outcome = run.task.judged(
        trajectory.segments,
        ("(unknown)",),
        has_ended=trajectory.has_ended,
        whose="the question asked",
    )
    return {
        "answer": outcome.prediction,
        "searches": [call.query for call in trajectory.tool_calls],
        "status": str(trajectory.status),
    }


def export_run(
    folder: Path, out: Path, *, dtype: str, only_adapter: bool = False
) -> dict[str, Any]:
    """A run's newest policy as a Hugging Face folder; or its adapter, as PEFT's.

    Errors: ValueError if `folder` is no run or has no adapter, or `out` is not empty.
    """
    if not is_run(str(folder)):
        raise ValueError(f"{folder} is not a run's folder (no checkpoints)")
    run = open_anywhere(read_run_config(folder))
    params = latest_params(run)
    if only_adapter:
        base = run.config.model.path
        num = export_adapter(run.transformer, params, out, base=base, dtype=dtype)
    else:
        num = run.transformer.architecture.num_parameters
        max_positions = run.config.rollout.max_len
        export(run.policy(params), out, max_positions=max_positions, dtype=dtype)
    return {
        "out": str(out),
        "parameters": num,
        "dtype": dtype,
        "files": sorted(path.name for path in out.iterdir()),
    }
