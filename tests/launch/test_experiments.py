"""launch/experiments.py: its variants, and the tables it prints."""

import dataclasses
import json
import runpy
from pathlib import Path

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.data.quickstart import only_two_hop
from jaxsearch.data.quickstart_worlds import large_world
from jaxsearch.models.hub import PACKAGED
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.rl.advantages import group_centred, leave_one_out
from jaxsearch.run.config_record import difference, resolved
from tests.tiny import dataset, tiny_config

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        # Python adds a script's folder to sys.path, but runpy does not.
        patch.syspath_prepend(LAUNCH)
        return runpy.run_path(str(LAUNCH / "experiments.py"))


def rl_stages(script, name):
    variant = script["VARIANTS"][name]
    config = script["read"](variant.config)
    return variant.change(tuple(s for s in config.stages if isinstance(s, RLStage)))


def warm_up(script, config):
    stages = script["read"](config).stages
    return resolved([s for s in stages if isinstance(s, SupervisedStage)])


def test_variants_differ_only_in_what_is_compared(script):
    [grpo] = rl_stages(script, "grpo")
    [baseline] = rl_stages(script, "reinforce_pp_baseline")
    [rloo] = rl_stages(script, "rloo")
    [unmasked] = rl_stages(script, "unmasked")
    assert (baseline.advantage, rloo.advantage) == (group_centred, leave_one_out)
    assert baseline.whiten_advantages and not rloo.whiten_advantages
    assert difference(resolved(unmasked), resolved(grpo)).startswith("has_masked")
    retrieve, answer = rl_stages(script, "stages_1_and_2")
    [alone] = rl_stages(script, "stage_2_alone")
    assert alone.steps == retrieve.steps + answer.steps
    assert difference(resolved(alone), resolved(answer)).startswith("steps is 150")


def test_compared_runs_share_a_warm_up(script):
    for config, origin in script["WARM_UPS"].items():
        assert warm_up(script, config) == warm_up(script, origin) != []
    for config in {v.config for v in script["VARIANTS"].values()}:
        if config not in script["WARM_UPS"]:
            assert script["start"](config, 0, None) == "jaxsearch:quickstart"
            assert warm_up(script, config) == []


def two_hop(run_folder, seed):
    return only_two_hop(dataset(run_folder, seed))


def test_only_two_hop_questions_are_left():
    assert {q.metadata["hops"] for q in two_hop(None, 0).questions} == {"2"}
    assert two_hop(None, 0).heldout == dataset(None, 0).heldout


@pytest.mark.slow
def test_a_variant_trains_and_transfers(script, tmp_path):
    """The whole script for one variant, with a tiny policy and few steps."""
    script["main"].__globals__["read"] = lambda name: tiny_config(tmp_path)
    variants = script["reinforce"].__globals__["VARIANTS"]
    variants["two_hop"] = dataclasses.replace(variants["two_hop"], source=two_hop)
    warm, run = tmp_path / "warm_up", tmp_path / "two_hop-0"
    script["warm_up"]("quickstart", 0, warm)
    large = large_world(0)
    few = dataclasses.replace(large, questions=large.questions[:4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxsearch.data.quickstart_worlds.large_world", lambda seed: few)
        script["reinforce"]("two_hop", 0, run, str(warm / "policy"))
    found = script["results"](tmp_path, [0], ["two_hop"])
    assert found["two_hop"]["0"]["large_world"]["n"] == 4
    trained = {rollout.question for rollout in read_rollouts(rollout_files(run)[4])}
    assert trained <= {question.question for question in two_hop(run, 0).questions}


def test_tables_show_medians_over_seeds(script):
    def run(em):
        def line(name, step, em):
            hops = {kind: {"em": em} for kind in ("1", "2", "3", "comparison")}
            more = {"searches_per_question": 2.0, "by_hops": hops}
            return {"name": name, "step": step, "em": em, **more}

        return {
            "evaluations": [
                line("before_rl", 0, 0.1),
                line("heldout", 10, em / 2),
                line("after_rl", 150, em),
                line("after_rl_sampled", 150, em),
                line("empty_index", 150, 0.0),
            ],
            "large_world": {"em": em},
        }

    found = {
        "grpo": {"0": run(0.9), "1": run(0.7), "2": run(0.8)},
        "two_hop": {"0": run(0.5)},
    }
    text = script["tables"](found)
    assert "| grpo | 0.900 0.700 0.800 | 0.800 | 0.800 | 0.000 |" in text
    assert "| grpo | 0.100 (2.0) | 0.400 (2.0) |" in text
    assert "| two_hop | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |" in text
    assert "stage_2_alone" not in text


def finished(folder, em, three):
    """A finished run's folder with these results."""
    folder.mkdir(parents=True)
    hops = {kind: {"em": em} for kind in ("1", "2", "comparison")}
    line = {"em": em, "searches_per_question": 2.0}
    names = ("before_rl", "after_rl_sampled", "empty_index")
    lines = [{"name": name, **line} for name in names]
    lines.append({"name": "after_rl", **line, "by_hops": {**hops, "3": {"em": three}}})
    (folder / "eval.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "done").touch()


def test_the_worst_rounding_is_shown_first(script, tmp_path):
    robustness = script["robustness"]
    finished(tmp_path / "robustness" / "0-default", 0.97, 0.9)
    finished(tmp_path / "robustness" / "0-avx", 0.94, 0.81)
    finished(tmp_path / "robustness" / "1-default", 0.99, 1.0)
    found = robustness.rows(tmp_path, "robustness", (0, 1), ("default", "avx"))
    assert [(row["seed"], row["rounding"]) for row in found] == [
        (0, "avx"),
        (0, "default"),
        (1, "default"),
    ]
    lines = robustness.table(found).splitlines()
    assert lines[2].startswith("| 0 | avx | 0.940 | 0.940 | 0.940 | 0.940 | 0.810 |")
    assert lines[-1].startswith("| median | of 3 | 0.970 | 0.970 |")


def test_a_nudged_policy_differs_in_the_seventh_digit(script, tmp_path):
    nudged = script["robustness"].nudged(tmp_path, "robustness", 3)
    ours = load_file(nudged / "model.safetensors")
    theirs = load_file(PACKAGED["jaxsearch:quickstart"] / "model.safetensors")
    for name, value in theirs.items():
        wide = value.astype(np.float32)
        error = np.abs(ours[name] - wide) / np.maximum(np.abs(wide), 1e-3)
        assert 0 < error.max() < 1e-5, name
