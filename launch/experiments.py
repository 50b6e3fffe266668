"""The experiments of README.md's "Experiments": what each part of a recipe is for.

    python launch/experiments.py [--out runs/experiments] [--seeds 0 1 2] [--jobs 1]
                                 [--only NAME ...]

All on the quickstart's world, on a CPU. The runs of a seed begin from the same
warmed-up policy, so that they differ in what is compared alone. What is done is not
done again: started anew after an interruption the script goes on where it stopped, runs
included.
Writes results.json and prints it as tables: medians over seeds.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import runpy
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to go on from a warmed-up policy.

    Attributes:
      config: in configs/, whose warm-up is run once a seed and whose RL stages are.
      changed: RL stages -> those of this variant.
      is_two_hop: only questions of two hops are trained on.
    """

    config: str
    changed: Callable[[tuple], tuple] = lambda stages: stages
    is_two_hop: bool = False


def with_advantage(name: str, whiten_advantages: bool = False) -> Callable:
    """The last stage with another advantage of `rl.advantages`."""

    def changed(stages: tuple) -> tuple:
        from jaxsearch.rl import advantages

        *others, last = stages
        last = dataclasses.replace(
            last,
            advantage=vars(advantages)[name],
            whiten_advantages=whiten_advantages,
        )
        return (*others, last)

    return changed


VARIANTS = {
    "stages_1_and_2": Variant("quickstart_r1_searcher"),
    "stage_2_alone": Variant("quickstart_r1_searcher_stage2"),
    "grpo": Variant("quickstart"),
    "reinforce_pp_baseline": Variant(
        "quickstart", with_advantage("group_centred", whiten_advantages=True)
    ),
    "rloo": Variant("quickstart", with_advantage("leave_one_out")),
    "unmasked": Variant("quickstart_unmasked"),
    "two_hop": Variant("quickstart", is_two_hop=True),
}
# Configs that share a warm-up, by the one whose it is.
WARM_UPS = {
    "quickstart": "quickstart",
    "quickstart_unmasked": "quickstart",
    "quickstart_r1_searcher": "quickstart_r1_searcher",
    "quickstart_r1_searcher_stage2": "quickstart_r1_searcher",
}
EXPERIMENTS = {
    "1. R1-Searcher's stage 1": ("stages_1_and_2", "stage_2_alone"),
    "2. Algorithms": ("grpo", "reinforce_pp_baseline", "rloo"),
    "3. Retrieved tokens masked, and not": ("grpo", "unmasked"),
    "4. Transfer": ("grpo", "two_hop"),
}
TRANSFERRED = EXPERIMENTS["4. Transfer"]


def read(name: str) -> Any:
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["config"]


def warm_up(name: str, seed: int, out: Path) -> None:
    """A config's supervised stages, and the policy they leave as a folder."""
    from jaxsearch.config import SupervisedStage
    from jaxsearch.run.export import export_run
    from jaxsearch.train import train

    config = read(name)
    stages = tuple(
        dataclasses.replace(stage, task=config.task)
        for stage in config.stages
        if isinstance(stage, SupervisedStage)
    )
    run = out / "run"
    train(dataclasses.replace(config, stages=stages, seed=seed, out=str(run)))
    policy, part = out / "policy", out / "policy.part"
    shutil.rmtree(part, ignore_errors=True)
    export_run(run, part, dtype="float32")
    part.rename(policy)


def reinforce(name: str, seed: int, out: Path, policy: Path) -> None:
    """A variant's RL stages from a warmed-up policy."""
    from jaxsearch.config import RLStage
    from jaxsearch.train import train

    variant = VARIANTS[name]
    config = read(variant.config)
    stages = tuple(s for s in config.stages if isinstance(s, RLStage))
    data = config.data
    if variant.is_two_hop:
        questions = out.with_suffix(".questions.jsonl")
        everything = data.source(None, seed).questions
        write_questions(questions, (q for q in everything if q.metadata["hops"] == "2"))
        data = dataclasses.replace(data, questions=str(questions))
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=str(policy)),
        data=data,
        stages=variant.changed(stages),
        seed=seed,
        out=str(out),
    )
    train(config)
    if name in TRANSFERRED:
        transfer(out, seed)
    (out / "done").touch()


def write_questions(path: Path, questions: Iterable[Any]) -> None:
    """A file of questions as `--data.questions` reads it."""
    from jaxsearch.json_lines import replace_lines

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_lines(path, (dataclasses.asdict(question) for question in questions))


def transfer(run: Path, seed: int) -> None:
    """The run's policy on a world of twice the passages, that it has not seen."""
    from jaxsearch.data.quickstart import large_world
    from jaxsearch.evaluation.results import evaluate_to
    from jaxsearch.json_lines import replace_lines
    from jaxsearch.search.build import build_index_folder
    from jaxsearch.search.encoder_options import EncoderOptions

    world = large_world(seed)
    folder = run / "large_world"
    questions, corpus = folder / "questions.jsonl", folder / "corpus.jsonl"
    write_questions(questions, world.questions)
    passages = ({"id": p.id, "contents": p.contents} for p in world.passages)
    replace_lines(corpus, passages)
    if not (folder / "index").exists():
        build_index_folder(
            corpus=str(corpus),
            encoder="tfidf",
            options=EncoderOptions(),
            out=str(folder / "index"),
            dims=512,
        )
    if not (folder / "eval").exists():
        evaluate_to(
            folder / "eval",
            model=str(run),
            questions=str(questions),
            index=str(folder / "index"),
            task="",
            limit=0,
            temperature=0.0,
        )


def subprocesses(jobs: list[list[str]], at_once: int) -> None:
    """This script with each list of arguments; stops at the first that fails."""

    def one(arguments: list[str]) -> None:
        print("begins:", *arguments, flush=True)
        command = [sys.executable, __file__, *arguments]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        print("done:", *arguments, flush=True)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(one, job) for job in jobs]:
            future.result()


def results(out: Path, seeds: list[int], names: list[str]) -> dict[str, Any]:
    """Of each variant and seed: the evaluations, in order."""
    from jaxsearch.monitor.writers import read_metrics

    found: dict[str, Any] = {}
    for name in names:
        for seed in seeds:
            run = out / f"{name}-{seed}"
            if not (run / "done").exists():
                continue
            one = {"evaluations": read_metrics(run / "eval.jsonl")}
            large = run / "large_world" / "eval" / "results.json"
            if large.exists():
                one["large_world"] = json.loads(large.read_text())
            found.setdefault(name, {})[str(seed)] = one
    return found


def median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f}" if values else "-"


def final(run: dict[str, Any], name: str, field: str = "em") -> Any:
    return next(e[field] for e in run["evaluations"] if e["name"] == name)


def tables(found: dict[str, Any]) -> str:
    """The experiments as Markdown."""
    lines = []
    for title, names in EXPERIMENTS.items():
        names = [name for name in names if name in found]
        if not names:
            continue
        lines += ["", f"**{title}**", ""]
        lines += curve(found, names)
        lines += ["", *ends(found, names)]
        if title.startswith("4"):
            lines += ["", *transfers(found, names)]
    return "\n".join(lines)


def curve(found: dict[str, Any], names: list[str]) -> list[str]:
    """Held-out EM (greedy) against RL steps; searches a question in brackets."""
    shown = (0, 10, 20, 30, 40, 60, 80, 100, 120, 150)
    by_step: dict[str, dict[int, list]] = {}
    for name in names:
        for run in found[name].values():
            for e in run["evaluations"]:
                if e["name"] in ("before_rl", "heldout", "after_rl"):
                    pairs = by_step.setdefault(name, {}).setdefault(e["step"], [])
                    pairs.append((e["em"], e["searches_per_question"]))
    rows = [
        f"| RL step | {' | '.join(map(str, shown))} |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for name in names:
        cells = []
        for step in shown:
            pairs = by_step[name].get(step, [])
            if not pairs:
                cells.append("")
                continue
            ems, searches = zip(*pairs, strict=True)
            cells.append(f"{median(ems)} ({statistics.median(searches):.1f})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def ends(found: dict[str, Any], names: list[str]) -> list[str]:
    """Each seed's end, and medians."""
    rows = ["| variant | EM, each seed | median | sampled | empty index |"]
    rows += ["|---|---|---|---|---|"]
    for name in names:
        runs = list(found[name].values())
        greedy = [final(run, "after_rl") for run in runs]
        columns = [" ".join(f"{em:.3f}" for em in greedy), median(greedy)]
        for kind in ("after_rl_sampled", "empty_index"):
            columns.append(median([final(run, kind) for run in runs]))
        rows.append(f"| {name} | {' | '.join(columns)} |")
    return rows


def transfers(found: dict[str, Any], names: list[str]) -> list[str]:
    """By hops, and in a world of twice the passages."""
    kinds = ("1", "2", "3", "comparison")
    rows = [f"| trained on | {' | '.join(kinds)} | twice the passages |"]
    rows += ["|---" * (len(kinds) + 2) + "|"]
    for name in names:
        runs = list(found[name].values())
        by_hops = [final(run, "after_rl", "by_hops") for run in runs]
        cells = [median([hops[kind]["em"] for hops in by_hops]) for kind in kinds]
        large = [run["large_world"]["em"] for run in runs if "large_world" in run]
        rows.append(f"| {name} | {' | '.join(cells)} | {median(large)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/experiments", help="folder of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--warm-up", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = Path(args.out)
    if args.warm_up:
        folder = out / "warm_up" / f"{args.warm_up}-{args.seeds[0]}"
        return warm_up(args.warm_up, args.seeds[0], folder)
    if args.variant:
        seed = args.seeds[0]
        origin = WARM_UPS[VARIANTS[args.variant].config]
        policy = out / "warm_up" / f"{origin}-{seed}" / "policy"
        return reinforce(args.variant, seed, out / f"{args.variant}-{seed}", policy)
    origins = dict.fromkeys(WARM_UPS[VARIANTS[name].config] for name in args.only)
    common = ["--out", str(out), "--seeds"]
    missing = [
        [*common, str(seed), "--warm-up", name]
        for seed in args.seeds
        for name in origins
        if not (out / "warm_up" / f"{name}-{seed}" / "policy").exists()
    ]
    subprocesses(missing, args.jobs)
    missing = [
        [*common, str(seed), "--variant", name]
        for seed in args.seeds
        for name in args.only
        if not (out / f"{name}-{seed}" / "done").exists()
    ]
    subprocesses(missing, args.jobs)
    found = results(out, args.seeds, list(VARIANTS))
    (out / "results.json").write_text(json.dumps(found, indent=1))
    print(tables(found))


if __name__ == "__main__":
    main()
