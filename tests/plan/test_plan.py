"""`jaxsearch plan` on the local devices, and invalid arguments."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import pytest

from jaxsearch import mesh as meshes
from jaxsearch.commands.main import main
from jaxsearch.config import DataConfig, ModelConfig
from jaxsearch.data import quickstart
from jaxsearch.mesh import MeshShape
from jaxsearch.plan.architectures import planned_architecture
from jaxsearch.plan.measured import TooLargeError
from jaxsearch.plan.plan import plan
from jaxsearch.plan.sharded_shapes import device_bytes
from jaxsearch.plan.text import as_text
from jaxsearch.plan.training import Training
from jaxsearch.run.environments import checked_stop_tags
from jaxsearch.run.folder import write_record
from jaxsearch.run.network import make_transformer, run_architecture
from tests.env.calculator_tool import Calculator, with_search
from tests.tiny import tiny_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def training(config):
    mesh = meshes.make_mesh(config.mesh)
    architecture, _ = planned_architecture(config)
    return Training(
        config=config,
        stage=config.stages[0],
        transformer=make_transformer(config.model, architecture, mesh),
        mesh=mesh,
    )


def assert_in_place(shardings, tree):
    """Checks that a compiled program has the shardings of the given shapes."""
    found, wanted = jax.tree.leaves(shardings), jax.tree.leaves(tree)
    assert len(found) == len(wanted)
    for sharding, shape in zip(found, wanted, strict=True):
        assert sharding.is_equivalent_to(shape.sharding, len(shape.shape)), shape


@pytest.mark.slow
def test_nothing_is_replicated_that_the_rules_shard(training):
    """Checks the arguments and the results of the compiled programs."""
    state = training.state
    # The rules shard every matrix eight times, so the test can fail.
    matrices = [x for x in jax.tree.leaves(state.params) if math.prod(x.shape) > 1000]
    for x in matrices:
        assert 8 * math.prod(x.sharding.shard_shape(x.shape)) == math.prod(x.shape)
    gradient = training.accumulate().compile()
    (_, params, reference, sums, _), _ = gradient.input_shardings
    for tree in (params, reference, sums):
        assert_in_place(tree, state.params)
    assert_in_place(gradient.output_shardings[0], state.params)
    step = training.apply().compile()
    assert_in_place(step.input_shardings[0][0], state)
    assert_in_place(step.output_shardings[1], state)


def test_state_is_counted_by_what_a_device_holds(training):
    exact = device_bytes((training.state.params, training.state.opt_state))
    num_parameters = training.transformer.architecture.num_parameters
    # Biases are sharded only over `tensor`, and step counters are replicated.
    assert 0 <= exact - num_parameters * 3 * 4 / 8 < 0.05 * exact


@pytest.mark.slow
def test_a_plan_of_the_devices_here(config, capsys):
    found = plan(config)
    assert found["machine"] == "local:8" and found["is_compiled"]
    assert found["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2}
    assert found["microbatch"] == [8, 64]
    names = {"gradient", "step", "prefill", "append", "decode"}
    assert found["programs"].keys() == names
    for name in ("gradient", "prefill", "append", "decode"):
        assert found["programs"][name]["flops"] > 0
    assert found["programs"]["gradient"]["received_bytes"]["all-gather"]["fsdp"] > 0
    assert 1.0 <= found["flops_of_own"] < 1.3  # a CPU's attention reads whole rows
    assert found["fits"] is None and not found["reasons"]  # a CPU has no figures
    assert "local:8: 8 devices" in as_text(found)
    json.dumps(found)
    assert "compiling decode" in capsys.readouterr().err


def planned(config, model, **rollout):
    return plan(
        dataclasses.replace(
            config,
            model=dataclasses.replace(
                config.model, path=model, dtype="bfloat16", remat=True
            ),
            rollout=dataclasses.replace(
                config.rollout, max_len=8192, max_prompt_len=512, **rollout
            ),
            mesh=MeshShape(),
        ),
        "h200:1",
    )


def test_a_plan_of_gpus_is_arithmetic_and_says_so(config):
    found = planned(config, "Qwen/Qwen2.5-0.5B-Instruct", tensor=1)
    assert found["fits"] and not found["is_compiled"]
    assert "(computed, not compiled)" in as_text(found)
    assert found["slots_that_fit"] > 8
    assert sum(found["least_step_seconds"].values()) > 0


def test_tpus_need_no_compiler_for_arithmetic(config):
    found = plan(config, "v5e:2x4", is_compiled=False)
    assert not found["is_compiled"] and found["devices"] == 8
    assert found["programs"]["gradient"]["compile_seconds"] is None


def test_arithmetic_imagines_the_devices_that_a_run_needs(config):
    mesh = MeshShape(fsdp=8, tensor=2)
    found = plan(dataclasses.replace(config, mesh=mesh), is_compiled=False)
    assert found["machine"] == "16 devices of this kind (local:8)"
    assert found["devices"] == 16 and found["mesh"]["fsdp"] == 8


@pytest.mark.slow
def test_random_weights_have_the_vocabulary_of_a_tokenizer(config):
    """The vocabulary of the run's dataset, else Qwen2.5's, as stated in the plan."""
    model = dataclasses.replace(config.model, path="", num_kv_heads=2)
    ours = DataConfig(source=quickstart.dataset)
    small = plan(dataclasses.replace(config, model=model, data=ours), is_compiled=False)
    assert small["sizes_from"] == "the config and its dataset"
    usual = plan(dataclasses.replace(config, model=model), is_compiled=False)
    assert "a vocabulary of 151,936" in usual["sizes_from"]
    assert small["parameters"] < 1_000_000 < usual["parameters"]


def test_a_warm_start_has_the_sizes_of_its_run(config, tmp_path):
    """Those of random weights with their tokenizer, or of a model's config.json."""
    first = tiny_config(tmp_path / "first")
    write_record(first, frozen="")
    tokenizer = first.data.source(Path(first.out), first.seed).tokenizer
    for path in (first.out, f"{first.out}/best", f"{first.out}/checkpoints/7"):
        begun = dataclasses.replace(config, model=ModelConfig(path=path, width=64))
        found, source = planned_architecture(begun)
        assert found == run_architecture(first.model, tokenizer)
        assert source == f"the run {path}"
    second = dataclasses.replace(config, out=str(tmp_path / "second"))
    write_record(second, frozen="")
    begun = dataclasses.replace(config, model=ModelConfig(path=second.out))
    found = plan(begun, is_compiled=False)
    assert found["parameters"] == planned_architecture(config)[0].num_parameters
    said = f"config.json, which the run {second.out} began with"
    assert found["sizes_from"].endswith(said)


def test_the_stop_table_has_the_tags_of_the_environment(config):
    """A rollout's turns end with them too, so decoding has a larger table."""
    (stage,) = config.stages
    protocol = stage.task.protocol
    assert checked_stop_tags(config, protocol) == protocol.stop_tags
    both = dataclasses.replace(config, environment=with_search)
    assert checked_stop_tags(both, protocol) == (
        *protocol.stop_tags,
        *Calculator.stop_tags,
    )
    wrong = dataclasses.replace(config, environment=lambda inputs: "calculator")
    with pytest.raises(ValueError, match="must be a function that returns an Env"):
        plan(wrong, is_compiled=False)


def test_what_does_not_fit_is_told_with_a_reason(config):
    found = planned(config, "Qwen/Qwen2.5-32B-Instruct", tensor=1)
    assert not found["fits"] and not found["suggestion"]
    told = as_text(found)
    assert "the update needs" in told
    assert "does not fit the 1 devices of a process" in told


def test_a_program_too_large_for_a_device_without_figures_is_told(config, monkeypatch):
    """As on a GPU that the table of chips lacks; a CPU compiles every program."""

    def compile_programs(*args):
        raise TooLargeError("decode does not fit")

    monkeypatch.setattr("jaxsearch.plan.plan.compile_programs", compile_programs)
    found = plan(config)
    assert found["fits"] is False and found["suggestion"] is None
    assert as_text(found).endswith("it does not fit:\n  decode does not fit")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--topology", "v5e:banana"], "topology 'v5e:banana' is unknown; known:"),
        (["--mesh.fsdp", "3"], "fsdp=3 x tensor=4 needs 12 devices, but there are 8"),
        (["--mesh.tensor", "8"], "'kv_heads' of size 4 is not divisible by the 8"),
        (["--rollout.tensor", "3"], "rollout.tensor 3 does not divide the 8 devices"),
        (["--rollout.replicas", "9"], "devices, but a process has 8"),
        (["--model.path", "folder/that/is/not"], "pass --model.path FOLDER"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, words, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    options = ["--topology", "h200:8", *options]
    status = main(["plan", str(CONFIGS / "research_qwen2_5_7b.py"), *options])
    assert status == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_the_configs_of_the_papers_runs_are_planned_as_they_are(capsys, monkeypatch):
    """Only the config is read: no weights, corpus, questions or tokenizer."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    for name, parameters in (("7b", 7_615_616_512), ("32b", 32_763_876_352)):
        config = str(CONFIGS / f"research_qwen2_5_{name}.py")
        assert main(["plan", config, "--topology", "h200:8", "--json"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["parameters"] == parameters
