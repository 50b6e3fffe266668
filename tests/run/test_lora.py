"""Whole runs that train adapters on a Hugging Face folder, and their exports."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxsearch.commands.main import main
from jaxsearch.config import ModelConfig
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.models.adapters import split
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.run.adapter_folder import export_adapter
from jaxsearch.run.build import open_run
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.config_record import identity
from jaxsearch.run.export import export, export_run
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.train import train
from tests.hf_folders import read_here
from tests.test_train import untimed
from tests.tiny import tiny_config

LORA = LoRAConfig(rank=4, alpha=8.0, targets="[qkvo]_proj|up_proj|down_proj")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A Hugging Face folder with random weights and the quickstart's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "base"
    run = open_run(tiny_config(folder.parent / "unused"))
    policy = run.policy(run.initial_params())
    export(policy, folder, max_positions=120, dtype="float32")
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """A run with a supervised stage and an RL stage with KL, only to be read."""
    config = tiny_config(
        tmp_path_factory.mktemp("runs") / "whole",
        model=ModelConfig(path=str(base), lora=LORA),
    )
    return config, train(config)


def final_params(config):
    last = choose_checkpoint(config, "last")
    return jax.device_get(open_run(config).checkpoint_params(last))


def test_a_run_that_resumes_equals_one_that_never_stopped(whole, tmp_path, caplog):
    """The resumed run compiles only the step, which is specific to each stage."""
    config, _ = whole
    halved = dataclasses.replace(config, out=str(tmp_path / "halved"))
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        train(dataclasses.replace(halved, steps=2))
        train(halved)
    assert untimed(read_metrics(Path(halved.out) / "metrics.jsonl")) == untimed(
        read_metrics(Path(config.out) / "metrics.jsonl")
    )
    jax.tree.map(
        np.testing.assert_array_equal, final_params(halved), final_params(config)
    )
    compiled = [r.getMessage() for r in caplog.records if "Compil" in r.getMessage()]
    assert any("apply_optimizer" in line for line in compiled)
    programs = ("accumulate", "decode", "observe", "prefill")
    assert not [line for line in compiled if any(p in line for p in programs)]


def test_weights_stay_and_adapters_move(whole, base):
    config, _ = whole
    run = open_run(config)
    frozen, trained = split(LORA, final_params(config))
    expected = read_here(base, run.transformer)
    jax.tree.map(np.testing.assert_array_equal, frozen, jax.device_get(expected))
    _, start = split(LORA, run.initial_params())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start, trained)
    assert all(jax.tree.leaves(moved))
    lines = read_metrics(Path(config.out) / "metrics.jsonl")
    assert all(line["logprob_drift/max"] < 1e-4 for line in lines[3:])
    # KL to the policy at the start of the stage, which is 0 at the first step.
    assert lines[3]["kl"] == 0 < lines[-1]["kl"]


def test_a_checkpoint_holds_adapters_and_their_optimizer(whole):
    config, _ = whole
    newest = max(
        (Path(config.out) / "checkpoints").iterdir(), key=lambda p: int(p.name)
    )
    [metadata] = newest.rglob("_METADATA")
    names = list(json.loads(metadata.read_text())["tree_metadata"])
    arrays = [name for name in names if name.endswith("'a')") or name.endswith("'b')")]
    # Parameters, reference and two moments, for six maps with two arrays each.
    assert len(arrays) == 4 * 6 * 2
    assert all("adapters" in name for name in arrays)
    others = {name.split("'")[1] for name in names if name not in arrays}
    assert others == {"num_skipped", "num_updates", "opt_state"}
    assert not [name for name in names if "embedding" in name or "scale" in name]


def test_a_policy_is_evaluated_and_exported_with_its_adapters_merged(whole, tmp_path):
    config, summary = whole
    results = evaluate_to(
        tmp_path / "eval",
        model=config.out,
        options=RunOptions(limit=6),
    )
    assert results["em"] == summary["em"]
    export_run(Path(config.out), tmp_path / "hf", dtype="float32")
    run, served = load_run(config.out)
    plain = dataclasses.replace(run.transformer, lora=LoRAConfig())
    merged = read_here(tmp_path / "hf", plain)
    again = plain.for_rollouts(merged)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        again,
        served,
    )
    before = plain.for_rollouts(split(LORA, run.initial_params())[0])
    old, new = (np.asarray(x["blocks"][0]["mlp"]["down"]) for x in (before, again))
    assert np.abs(old - new).max() > 1e-4


def test_other_weights_under_the_same_adapters_are_refused(whole, base, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    config = dataclasses.replace(
        whole[0],
        model=dataclasses.replace(whole[0].model, path=str(moved)),
        out=str(tmp_path / "run"),
        steps=1,
    )
    train(config)
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.0001
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    before = {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*")}
    for use in (lambda: train(config), lambda: load_run(config.out)):
        with pytest.raises(ValueError, match="was trained on other frozen weights"):
            use()
    assert {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*")} == before


def test_lora_is_part_of_what_a_run_is_unless_it_is_off(tmp_path):
    config = tiny_config(tmp_path)

    def of(**lora):
        model = dataclasses.replace(config.model, lora=LoRAConfig(**lora))
        return identity(dataclasses.replace(config, model=model))

    assert "lora" not in identity(config)["model"]
    assert of(targets="q_proj", alpha=1.0) == identity(config)
    distinct = [of(rank=4), of(rank=8), of(rank=4, alpha=4.0), of(rank=4, targets=".*")]
    assert all(distinct.count(one) == 1 for one in distinct)
    assert identity(config) not in distinct


@pytest.mark.long
def test_adapters_on_random_weights_learn(tmp_path):
    """The loss of demonstrations; guessing among all 331 ids gives 5.8."""
    config = tiny_config(tmp_path / "run", steps=1)
    read, search = config.stages
    read = dataclasses.replace(
        read,
        steps=40,
        batch_size=16,
        max_tokens=1024,
        optimizer=OptimizerConfig(learning_rate=2e-2, weight_decay=0.0),
    )
    model = dataclasses.replace(config.model, lora=LoRAConfig(rank=8, alpha=8.0))
    train(dataclasses.replace(config, stages=(read, search), model=model))
    losses = [line["loss"] for line in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert losses[0] > 5.8 and np.mean(losses[35:40]) < 4.2


# ---------------------------------------------------------------- PEFT


@pytest.fixture(scope="module")
def adapter(whole, tmp_path_factory):
    """The run's adapter folder, written by the command."""
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    assert main(["export", whole[0].out, str(folder), "--adapter"]) == 0
    return folder


def test_an_adapter_folder_has_the_names_and_shapes_of_peft(whole, base, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert (config["r"], config["lora_alpha"]) == (4, 8.0)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    assert config["target_modules"] == names
    tensors = load_file(adapter / "adapter_model.safetensors")
    weights = load_file(base / "model.safetensors")
    assert len(tensors) == 2 * len(names)
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    for name, tensor in tensors.items():
        prefix = "base_model.model."
        assert name.startswith(prefix + "model.layers.0.")
        weight = weights[name.removeprefix(prefix).rsplit(".", 2)[0] + ".weight"]
        num_outputs, num_inputs = weight.shape
        is_a = name.endswith(".lora_A.weight")
        assert is_a or name.endswith(".lora_B.weight")
        assert tensor.shape == ((4, num_inputs) if is_a else (num_outputs, 4))


def test_an_adapter_folder_and_the_base_give_the_merged_folder(
    whole, base, adapter, tmp_path
):
    """W + alpha / r * B A by PEFT's rule, computed from the files."""
    export_run(Path(whole[0].out), tmp_path / "hf", dtype="float32")
    merged = load_file(tmp_path / "hf" / "model.safetensors")
    weights = load_file(base / "model.safetensors")
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        of = name.removesuffix(".lora_A.weight")
        weight = of.removeprefix("base_model.model.") + ".weight"
        product = tensors[of + ".lora_B.weight"] @ tensors[name]
        assert np.abs(product).max() > 1e-5
        weights[weight] = weights[weight] + 8.0 / 4 * product
    assert weights.keys() == merged.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, merged[name], rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_loads_the_adapter_and_gives_our_logits(whole, base, adapter):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: parity)")
    peft = pytest.importorskip("peft", reason="needs PEFT (extra: parity)")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    without = model(torch.arange(24)[None]).logits.detach().numpy()
    model = peft.PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        expected = model(torch.arange(24)[None]).logits.numpy()
    run = open_run(whole[0])
    params = run.checkpoint_params(choose_checkpoint(whole[0]))
    # One row per device of the run's mesh, all equal.
    tokens = jnp.tile(jnp.arange(24), (run.mesh.size, 1))
    hidden = run.transformer.hidden(params, tokens, jnp.ones_like(tokens))
    logits = jnp.einsum("BTD,VD->BTV", hidden, run.transformer.head(params))
    size = np.abs(expected).max()
    assert np.abs(logits - expected).max() <= 2e-5 * size
    assert np.abs(without - expected).max() > 1e-3 * size


def test_there_is_no_adapter_of_random_weights_or_of_none(tmp_path):
    transformer = open_run(tiny_config(tmp_path / "run")).transformer
    for lora, base, message in (
        (LoRAConfig(), "folder", "model.lora.rank is 0"),
        (LORA, "", "belong to random weights"),
    ):
        adapted = dataclasses.replace(transformer, lora=lora)
        with pytest.raises(ValueError, match=message):
            export_adapter(adapted, {}, tmp_path / "out", base=base, dtype="float32")
    assert not (tmp_path / "out").exists()


def test_an_expression_that_fits_no_map_is_one_line(tmp_path, capsys):
    words = ["--model.lora.rank", "4", "--out", str(tmp_path / "run")]
    for targets, message in (
        ("(", "not a regular expression"),
        ("q", "known maps: q_"),
    ):
        config = str(Path(__file__).resolve().parents[2] / "configs" / "quickstart.py")
        assert main(["train", config, *words, "--model.lora.targets", targets]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert message in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize("targets", ["q_proj|lm_head", "q_prj|k_proj"])
def test_a_plan_refuses_an_alternative_that_selects_nothing(capsys, targets):
    config = str(Path(__file__).resolve().parents[2] / "configs" / "quickstart.py")
    words = ["--no-compile", "--model.lora.rank", "4", "--model.lora.targets", targets]
    assert main(["plan", config, *words]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "the alternative '" in line and "known maps: q_proj, k_proj" in line
