"""launch/experiments.py: its variants, and the tables it prints."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.data.quickstart_worlds import large_world
from jaxsearch.rl.advantages import group_centred, leave_one_out
from jaxsearch.run.config_record import difference, resolved
from tests.tiny import tiny_config

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
        assert warm_up(script, config) == warm_up(script, origin)
    assert {v.config for v in script["VARIANTS"].values()} == set(script["WARM_UPS"])


@pytest.mark.slow
def test_a_variant_trains_and_transfers(script, tmp_path):
    """The whole script for one variant, with a tiny policy and few steps."""
    script["main"].__globals__["read"] = lambda name: tiny_config(tmp_path)
    warm, run = tmp_path / "warm_up", tmp_path / "two_hop-0"
    script["warm_up"]("quickstart", 0, warm)
    large = large_world(0)
    few = dataclasses.replace(large, questions=large.questions[:4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxsearch.data.quickstart_worlds.large_world", lambda seed: few)
        script["reinforce"]("two_hop", 0, run, warm / "policy")
    found = script["results"](tmp_path, [0], ["two_hop"])
    assert found["two_hop"]["0"]["large_world"]["n"] == 4
    questions = (tmp_path / "two_hop-0.questions.jsonl").read_text().splitlines()
    hops = {json.loads(line)["metadata"]["hops"] for line in questions}
    assert hops == {"2"}


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
