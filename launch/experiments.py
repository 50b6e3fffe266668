"""The experiments of configs/README.md: the effect of one choice at a time.

    python launch/experiments.py [--out runs/experiments] [--seeds 0 1 2] [--jobs 1]
                                 [--only NAME ...] [--perturbations default avx]

All experiments run on the quickstart's world, on a CPU. The runs of a seed start from
the same warmed-up policy, so they differ only in the choice that is compared. After an
interruption the same command continues where it stopped, also within a run. Writes
results.json and prints the tables: medians over seeds.

`smollm2` runs only if named in --only, and needs --model, --questions, --heldout and
--index (configs/README.md, "A real language model"): configs/smollm2_hotpotqa.py with
retrieved tokens masked and not masked, by default with seeds 0 and 1.

`robustness` and `robustness_r1_searcher` run only if named in --only: one config with
several seeds and roundings (launch/robustness.py), the worst result first.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import robustness
import smollm2_experiment
from experiment_tables import TRANSFERRED, results, tables

from jaxsearch.data.quickstart import two_hop_dataset

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
INPUTS = [field.name for field in dataclasses.fields(smollm2_experiment.Inputs)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to continue from a warmed-up policy.

    Attributes:
      config: name in configs/. Its warm-up runs once per seed, its RL stages for every
        variant.
      change: RL stages of the config -> RL stages of this variant.
      source: its `data.source`; None for that of the config.
    """

    config: str
    change: Callable[[tuple], tuple] = lambda stages: stages
    source: Callable | None = None


def with_advantage(name: str, whiten_advantages: bool = False) -> Callable:
    """Replaces the advantage of the last stage by one of `rl.advantages`."""

    def change(stages: tuple) -> tuple:
        from jaxsearch.rl import advantages

        *others, last = stages
        last = dataclasses.replace(
            last,
            advantage=vars(advantages)[name],
            whiten_advantages=whiten_advantages,
        )
        return (*others, last)

    return change


VARIANTS = {
    "stages_1_and_2": Variant("quickstart_r1_searcher"),
    "stage_2_alone": Variant("quickstart_r1_searcher_stage2"),
    "grpo": Variant("quickstart"),
    "reinforce_pp_baseline": Variant(
        "quickstart", with_advantage("group_centred", whiten_advantages=True)
    ),
    "rloo": Variant("quickstart", with_advantage("leave_one_out")),
    "unmasked": Variant("quickstart_unmasked"),
    "two_hop": Variant("quickstart", source=two_hop_dataset),
}
# Config -> the config whose warm-up it shares; the others start from the policy of the
# package.
WARM_UPS = {
    "quickstart_r1_searcher": "quickstart_r1_searcher",
    "quickstart_r1_searcher_stage2": "quickstart_r1_searcher",
}


def read(name: str) -> Any:
    """The config with that name in configs/."""
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["config"]


def warm_up(name: str, seed: int, out: Path) -> None:
    """Runs a config's supervised stages and exports the policy, under `out`."""
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


def reinforce(name: str, seed: int, out: Path, policy: str) -> None:
    """Runs a variant's RL stages from a policy: a folder, or one of the package."""
    from jaxsearch.config import RLStage
    from jaxsearch.train import train

    variant = VARIANTS[name]
    config = read(variant.config)
    stages = tuple(s for s in config.stages if isinstance(s, RLStage))
    source = variant.source or config.data.source
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=policy),
        data=dataclasses.replace(config.data, source=source),
        stages=variant.change(stages),
        seed=seed,
        out=str(out),
    )
    train(config)
    if name in TRANSFERRED:
        transfer(out, seed)
    (out / "done").touch()


def start(config: str, seed: int, out: Path) -> str:
    """The policy that the variants of a config start from."""
    if config in WARM_UPS:
        return str(out / "warm_up" / f"{WARM_UPS[config]}-{seed}" / "policy")
    return read(config).model.path


def write_questions(path: Path, questions: Iterable[Any]) -> None:
    """Writes a file that `--data.questions` reads."""
    from jaxsearch.json_lines import replace_lines

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_lines(path, (dataclasses.asdict(question) for question in questions))


def transfer(run: Path, seed: int) -> None:
    """Evaluates the run's policy on an unseen world with twice as many passages."""
    from jaxsearch.data.quickstart_worlds import large_world
    from jaxsearch.evaluation.results import evaluate_to
    from jaxsearch.json_lines import replace_lines
    from jaxsearch.run.options import RunOptions
    from jaxsearch.search.build import build_index_folder
    from jaxsearch.search.build_settings import BuildSettings

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
            out=str(folder / "index"),
            settings=BuildSettings(dims=512),
        )
    if not (folder / "eval" / "results.json").exists():
        evaluate_to(
            folder / "eval",
            model=str(run),
            checkpoint="last",
            options=RunOptions(
                questions=(str(questions),), index=str(folder / "index")
            ),
        )


def subprocesses(jobs: list[list[str]], at_once: int) -> None:
    """Runs this script with each list of arguments; raises at the first failure."""

    def one(arguments: list[str]) -> None:
        print("started:", *arguments, flush=True)
        command = [sys.executable, __file__, *arguments]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        print("done:", *arguments, flush=True)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(one, job) for job in jobs]:
            future.result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/experiments", help="folder of all runs")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="0 1 2; 0 to 7 or 3 for robustness; 0 1 for smollm2",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*VARIANTS, *robustness.ROBUSTNESS, smollm2_experiment.NAME],
        default=list(VARIANTS),
    )
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs")
    parser.add_argument(
        "--perturbations",
        nargs="+",
        choices=robustness.PERTURBATIONS,
        default=["default", "avx"],
        help="roundings of the robustness runs",
    )
    for name in INPUTS:
        parser.add_argument(f"--{name}", default="", help="for smollm2")
    for internal in ("--warm-up", "--variant", "--robust", "--smollm2"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = Path(args.out)
    if args.warm_up:
        folder = out / "warm_up" / f"{args.warm_up}-{args.seeds[0]}"
        return warm_up(args.warm_up, args.seeds[0], folder)
    if args.variant:
        seed = args.seeds[0]
        policy = start(VARIANTS[args.variant].config, seed, out)
        return reinforce(args.variant, seed, out / f"{args.variant}-{seed}", policy)
    if args.robust:
        return robustness.run(out, args.robust, args.seeds[0], args.perturbations[0])
    inputs = smollm2_experiment.Inputs(*(vars(args)[name] for name in INPUTS))
    if args.smollm2:
        return smollm2_experiment.run(out, args.seeds[0], args.smollm2, inputs)
    if smollm2_experiment.NAME in args.only:
        compare_masks(args, out, inputs)
    for name in args.only:
        if name in robustness.ROBUSTNESS:
            compare_roundings(name, args, out)
    names = [name for name in args.only if name in VARIANTS]
    if names:
        compare_variants(names, args, out)


def compare_masks(
    args: argparse.Namespace, out: Path, inputs: smollm2_experiment.Inputs
) -> None:
    """Runs the experiment `smollm2`, or the rest of it, and prints its table."""
    seeds = args.seeds or [0, 1]
    _ = inputs.arguments  # checks them before anything runs
    given = [word for n in INPUTS for word in (f"--{n}", vars(args)[n])]
    missing = [
        ["--out", str(out), "--smollm2", variant, "--seeds", str(seed), *given]
        for seed in seeds
        for variant in smollm2_experiment.VARIANTS
        if not (smollm2_experiment.run_folder(out, seed, variant) / "done").exists()
    ]
    subprocesses(missing, args.jobs)
    found = smollm2_experiment.rows(out, seeds, args.heldout)
    (out / "smollm2.json").write_text(json.dumps(found, indent=1))
    print(smollm2_experiment.table(found))


def compare_roundings(name: str, args: argparse.Namespace, out: Path) -> None:
    """Runs a robustness experiment, or the rest of it, and prints its table."""
    seeds = args.seeds or list(range(robustness.ROBUSTNESS[name].num_seeds))
    missing = [
        ["--out", str(out), "--robust", name, "--seeds", str(seed)]
        + ["--perturbations", perturbation]
        for seed in seeds
        for perturbation in args.perturbations
        if not (robustness.run_folder(out, name, seed, perturbation) / "done").exists()
    ]
    subprocesses(missing, args.jobs)
    found = robustness.rows(out, name, seeds, args.perturbations)
    (out / f"{name}.json").write_text(json.dumps(found, indent=1))
    print(robustness.table(found))


def compare_variants(names: list[str], args: argparse.Namespace, out: Path) -> None:
    """Runs the variants, or the rest of them, and prints the experiments' tables."""
    seeds = args.seeds or [0, 1, 2]
    configs = [VARIANTS[name].config for name in names]
    origins = dict.fromkeys(WARM_UPS[name] for name in configs if name in WARM_UPS)
    common = ["--out", str(out), "--seeds"]
    missing = [
        [*common, str(seed), "--warm-up", name]
        for seed in seeds
        for name in origins
        if not (out / "warm_up" / f"{name}-{seed}" / "policy").exists()
    ]
    subprocesses(missing, args.jobs)
    missing = [
        [*common, str(seed), "--variant", name]
        for seed in seeds
        for name in names
        if not (out / f"{name}-{seed}" / "done").exists()
    ]
    subprocesses(missing, args.jobs)
    found = results(out, seeds, list(VARIANTS))
    (out / "results.json").write_text(json.dumps(found, indent=1))
    print(tables(found))


if __name__ == "__main__":
    main()
