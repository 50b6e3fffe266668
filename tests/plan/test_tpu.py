"""Programs compiled for TPUs that are not attached, if libtpu is installed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

if importlib.util.find_spec("libtpu") is None:
    pytest.skip("needs libtpu (the extra `plan`)", allow_module_level=True)

RUN = """
from jaxsearch.config import *
from jaxsearch.data import sample
from jaxsearch.mesh import MeshShape

config = RunConfig(
    model=ModelConfig(
        path={folder!r}, dtype="bfloat16", remat={remat}
    ),
    data=DataConfig(source=sample.dataset),
    rollout=RolloutConfig(
        num_slots=8,
        max_len=512,
        max_prompt_len=128,
        max_turn_len=128,
        max_observation_len=128,
        tensor=2,
    ),
    stages=(RLStage(name="search", steps=1, max_tokens=4 * 512),),
    mesh=MeshShape(fsdp={fsdp}, tensor={tensor}),
)
"""
SIZES = {
    "model_type": "qwen2",
    "vocab_size": 2048,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


def planned(folder, sizes, *words, **fields):
    (folder / "config.json").write_text(json.dumps(sizes))
    run = folder / "run.py"
    run.write_text(RUN.format(folder=str(folder), **fields))
    command = ["plan", str(run), "--topology", "v5e:2x2", "--json", *words]
    done = subprocess.run(
        [sys.executable, "-m", "jaxsearch", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("fsdp", "tensor", "remat"), [(4, 1, True), (2, 2, False)])
def test_an_update_computes_and_sends_what_it_must(tmp_path, fsdp, tensor, remat):
    """On four v5e TPUs: within 1.1 and 1.15 times the minimum; kernels compile."""
    fields = {"fsdp": fsdp, "tensor": tensor, "remat": remat}
    found = planned(tmp_path, SIZES, **fields)
    assert found["flops_of_own"] <= 1.1
    assert found["fsdp_received_of_least"] <= 1.15
    assert found["fits"]


@pytest.mark.slow
def test_no_cache_is_copied_where_a_device_has_two_heads(tmp_path):
    sizes = SIZES | {"num_key_value_heads": 4}
    fields = {"fsdp": 4, "tensor": 1, "remat": True}
    found = planned(tmp_path, sizes, "--rollout.num-slots", "256", **fields)
    layer = found["slots"] * found["slot_bytes"] / sizes["num_hidden_layers"]
    assert found["programs"]["decode"]["extra_bytes"] < layer / 2
