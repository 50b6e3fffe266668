"""Every file of configs/ fits its machine and has the numbers of its paper."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import RLStage
from jaxsearch.data import quickstart
from jaxsearch.models.hub import PACKAGED
from jaxsearch.rewards import tasks
from jaxsearch.rl.advantages import group_centred, group_relative
from jaxsearch.rl.aggregation import sequence_mean, token_mean
from jaxsearch.rl.losses import kl_k3
from jaxsearch.run.config_file import read_config
from jaxsearch.run.network import run_architecture
from jaxsearch.run.policy import read_architecture

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))
# Configs with a paper's model, and the machine that their docstring names.
MACHINES = {
    "research_qwen2_5_7b": "v5e:4x4",
    "research_qwen2_5_7b_instruct": "v5e:4x4",
    "research_qwen2_5_32b": "v5p:4x4x4",
    "research_qwen2_5_32b_instruct": "v5p:4x4x4",
    "r1_searcher_qwen2_5_7b": "h100:8",
    "r1_searcher_qwen2_5_7b_two_stages": "h100:8",
    "r1_searcher_llama3_1_8b_instruct": "h100:8",
    "search_r1_qwen2_5_3b": "h100:8",
    "search_r1_qwen2_5_7b": "h100:8",
    "small_qwen2_5_0_5b": "v5e:1x1",
    "small_qwen2_5_1_5b": "v5e:1x1",
    "small_qwen2_5_3b": "h100:1",
}
# Configs of a model that a script writes to a folder, and its config.json.
WRITTEN = {
    "smollm2_hotpotqa": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "rope_theta": 100_000.0,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
}
PARTS = {"Paper", "Differs", "Data", "Machine", "Command", "Cost", "Result"}


def read(name):
    return read_config(str(CONFIGS / f"{name}.py"))


def planned(capsys, name, *options):
    words = ["plan", str(CONFIGS / f"{name}.py"), *options, "--no-compile", "--json"]
    assert main(words) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def docstring(name):
    return (CONFIGS / f"{name}.py").read_text().split('"""')[1]


def test_a_warm_up_alone_is_not_planned(capsys):
    words = ["plan", str(CONFIGS / "quickstart_warm_up.py"), "--no-compile"]
    assert main(words) == 2
    assert "plan needs an RL stage" in capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in NAMES if n != "quickstart_warm_up"])
def test_every_config_is_planned_here(capsys, tmp_path, name):
    options = []
    if name in WRITTEN:
        (tmp_path / "config.json").write_text(json.dumps(WRITTEN[name]))
        options = ["--model.path", str(tmp_path)]
    found = planned(capsys, name, *options)
    assert found["machine"] == "local:8" and found["parameters"] > 10_000


@pytest.mark.parametrize("name", MACHINES)
def test_a_run_fits_the_machine_that_it_names(capsys, monkeypatch, name):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = planned(capsys, name, "--topology", MACHINES[name])
    assert found["fits"], found["reasons"]
    assert found["slots_that_fit"] > 0
    config = read(name)
    # The cache is not larger than the slots that fit.
    cache_len = config.rollout.cache_len
    if cache_len is not None:
        assert cache_len // config.rollout.max_len <= found["slots_that_fit"]
    check_cost(" ".join(docstring(name).split()), MACHINES[name], found)


def check_cost(text, machine, found):
    """Checks that the docstring states the cost that `plan` computes."""
    assert f"--topology {machine} --no-compile" in text
    memory, update, rollouts = (
        f"{found[key] / 1e9:.1f}"
        for key in ("memory_bytes", "update_bytes", "rollout_bytes")
    )
    assert f"{memory} GB of a device, the update takes {update} and " in text
    assert f"rollouts {rollouts}; {found['slots_that_fit']} slots" in text
    seconds = found["least_step_seconds"]
    at_least = f"{sum(seconds.values()):.0f} s ({seconds['update']:.0f} of updates)"
    assert f"takes at least {at_least}" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_says_what_it_takes(name):
    lines = docstring(name).splitlines()
    keys = {line.partition(" ")[0] for line in lines[2:] if line[:1].strip()}
    assert "Command" in keys
    if name in MACHINES:
        assert keys >= PARTS
        assert "not yet" in docstring(name).rpartition("Result")[2]
    assert f"configs/{name}.py" in docstring(name)
    assert max(map(len, lines)) <= 88


def test_configs_of_papers_are_known():
    """No config names a model whose sizes `plan` would have to fetch."""
    paths = {name: read(name).model.path for name in NAMES}
    of_papers = {name for name, path in paths.items() if path and path not in PACKAGED}
    assert of_papers == set(MACHINES) | set(WRITTEN)


def test_the_quickstart_from_scratch_is_the_warm_up_and_the_quickstart():
    whole, warm_up = read("quickstart_from_scratch"), read("quickstart_warm_up")
    assert whole.stages == (*warm_up.stages, *read("quickstart").stages)
    assert whole.model == warm_up.model


def test_the_packaged_policy_is_that_of_the_warm_up():
    packaged = read_architecture("jaxsearch:quickstart")
    tokenizer = quickstart.dataset(None, 0).tokenizer
    model = read("quickstart_warm_up").model
    made = run_architecture(model, tokenizer)
    assert dataclasses.replace(packaged, max_positions=None) == made
    assert packaged.max_positions == read("quickstart").rollout.max_len
    [folder] = PACKAGED.values()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_200_000


@pytest.mark.parametrize(
    ("name", "model", "prompt"),
    [
        ("research_qwen2_5_7b", "Qwen/Qwen2.5-7B", "base"),
        ("research_qwen2_5_7b_instruct", "Qwen/Qwen2.5-7B-Instruct", "chat"),
        ("research_qwen2_5_32b", "Qwen/Qwen2.5-32B", "base"),
        ("research_qwen2_5_32b_instruct", "Qwen/Qwen2.5-32B-Instruct", "chat"),
    ],
)
def test_research(name, model, prompt):
    config = read(name)
    assert (config.model.path, config.model.prompt) == (model, prompt)
    assert config.retrieval.num_passages == 5 and config.rollout.max_len == 8192
    [stage] = config.stages
    assert stage.task is tasks.RESEARCH
    assert (stage.questions_per_step, stage.group_size, stage.steps) == (256, 5, 154)
    assert stage.minibatches_per_step == 1 and stage.temperature == 1.0
    assert stage.advantage is group_relative and stage.aggregation is token_mean
    check_verl(stage)
    assert stage.optimizer.warmup_steps == 0 and stage.optimizer.final_share == 1.0


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("search_r1_qwen2_5_3b", "Qwen/Qwen2.5-3B"),
        ("search_r1_qwen2_5_7b", "Qwen/Qwen2.5-7B"),
    ],
)
def test_search_r1(name, model):
    config = read(name)
    assert (config.model.path, config.model.prompt) == (model, "chat")
    assert config.retrieval.num_passages == 3
    rollout = config.rollout
    assert (rollout.max_searches, rollout.max_turn_len) == (4, 500)
    assert rollout.max_observation_len == 500 and rollout.has_reminder
    [stage] = config.stages
    assert stage.task is tasks.SEARCH_R1
    assert (stage.questions_per_step, stage.group_size, stage.steps) == (512, 5, 1005)
    # Minibatches of 256 rollouts.
    assert (
        stage.questions_per_step * stage.group_size / stage.minibatches_per_step == 256
    )
    assert stage.advantage is group_relative
    check_verl(stage)
    assert stage.optimizer.warmup_steps == 286 * stage.minibatches_per_step


def check_verl(stage):
    """The settings of verl that ReSearch and Search-R1 share."""
    objective, optimizer = stage.objective, stage.optimizer
    assert (objective.clip_low, objective.clip_high) == (0.2, 0.2)
    assert objective.kl is kl_k3
    assert (objective.kl_weight, objective.entropy_weight) == (0.001, 0.001)
    assert (optimizer.learning_rate, optimizer.weight_decay) == (1e-6, 0.01)
    assert (optimizer.beta1, optimizer.beta2) == (0.9, 0.999)
    assert optimizer.max_grad_norm == 1.0


@pytest.mark.parametrize(
    ("name", "task_names", "questions", "steps", "kl"),
    [
        ("r1_searcher_qwen2_5_7b", ["r1_searcher_qwen"], [64], [127], 0.0),
        (
            "r1_searcher_qwen2_5_7b_two_stages",
            ["r1_searcher_stage1", "r1_searcher_stage2"],
            [64, 64],
            [5, 127],
            0.0,
        ),
        (
            "r1_searcher_llama3_1_8b_instruct",
            ["r1_searcher_llama_stage1", "r1_searcher_llama_stage2"],
            [15, 65],
            [23, 125],
            1e-4,
        ),
    ],
)
def test_r1_searcher(name, task_names, questions, steps, kl):
    config = read(name)
    is_llama = "llama" in name
    assert config.model.prompt == ("chat" if is_llama else "base")
    assert config.retrieval.num_passages == 3
    rollout = config.rollout
    assert (rollout.max_searches, rollout.max_turn_len) == (8, 512)
    assert rollout.top_p == 0.95 and rollout.top_k is None
    stages = config.stages
    assert [stage.task.name for stage in stages] == task_names
    assert [stage.questions_per_step for stage in stages] == questions
    assert [stage.steps for stage in stages] == steps
    for stage in stages:
        assert (stage.group_size, stage.minibatches_per_step) == (16, 4)
        assert stage.aggregation is sequence_mean
        assert (stage.objective.kl_weight, stage.reward_kl_weight) == (0.0, kl)
        assert (stage.objective.clip_low, stage.objective.clip_high) == (0.2, 0.2)
        assert stage.objective.entropy_weight == 0.0
        optimizer = stage.optimizer
        assert (optimizer.learning_rate, optimizer.final_share) == (2e-6, 0.1)
        assert (optimizer.beta1, optimizer.beta2) == (0.9, 0.95)
        assert (optimizer.weight_decay, optimizer.warmup_steps) == (0.0, 0)
    # Only Llama's first stage standardises within groups.
    is_grpo = [is_llama and i == 0 for i in range(len(stages))]
    assert [stage.advantage is group_relative for stage in stages] == is_grpo
    assert [stage.advantage is group_centred for stage in stages] == [
        not one for one in is_grpo
    ]
    assert [stage.whiten_advantages for stage in stages] == [not one for one in is_grpo]


@pytest.mark.parametrize("size", ["0_5b", "1_5b", "3b"])
def test_small_ones_need_one_accelerator_and_no_corpus(size):
    config = read(f"small_qwen2_5_{size}")
    assert config.model.lora.rank > 0
    assert not (config.data.questions or config.retrieval.index)
    assert dataclasses.astuple(config.mesh) == (1, None, 1)
    [stage] = config.stages
    assert isinstance(stage, RLStage) and stage.task is tasks.RESEARCH
    assert "not yet run" in docstring(f"small_qwen2_5_{size}")
