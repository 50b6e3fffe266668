"""`eval --model` on Hugging Face folders, valid and invalid."""

import json

import jax
import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.convert import to_hf
from jaxsearch.models.transformer import Transformer
from tests.hf_folders import write_folder

PIECES = [chr(i) for i in range(33, 127)] + ["▁", "▁the", "\n"]
QWEN3 = Architecture(
    vocab_size=104,
    width=32,
    mlp_width=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=12,
    has_qkv_bias=False,
    has_qk_norm=True,
    max_positions=512,
)


@pytest.fixture
def words(tmp_path):
    """The command that evaluates a random Qwen3 on two questions."""
    transformer = Transformer(architecture=QWEN3)
    params = transformer.init(jax.random.key(0))
    write_folder(tmp_path / "model", QWEN3, dict(to_hf(params, QWEN3)))
    pieces_tokenizer(PIECES).save(tmp_path / "model")
    corpus, questions = tmp_path / "corpus.jsonl", tmp_path / "questions.jsonl"
    passages = [{"id": str(i), "contents": f"Title {i}\nText {i}"} for i in range(9)]
    corpus.write_text("".join(json.dumps(p) + "\n" for p in passages))
    asked = [{"id": str(i), "question": "Who?", "golden_answers": ["I"]} for i in "ab"]
    questions.write_text("".join(json.dumps(q) + "\n" for q in asked))
    # The pieces are characters, of which the task's prompt has too many.
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{question}")
    index = str(tmp_path / "index")
    assert main(["index", "build", "--corpus", str(corpus), "--out", index]) == 0
    return [
        *("eval", "--model", str(tmp_path / "model"), "--questions", str(questions)),
        *("--index", index, "--out", str(tmp_path / "results"), "--json"),
        *("--prompt-template", str(prompt)),
    ]


@pytest.mark.slow
def test_a_folder_is_evaluated(words, tmp_path, capsys):
    assert main(words) == 0
    results = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert results["n"] == 2 and results["em"] == 0.0
    lines = (tmp_path / "results" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 2
    scored = ["score", "--task", "research", "--json"]
    assert main([*scored, str(tmp_path / "results" / "predictions.jsonl")]) == 0
    judged = json.loads(capsys.readouterr().out)
    for name in ("n", "em", "f1", "cover_em", "mean_reward"):
        assert judged[name] == results[name], name
    assert judged["num_rewards"] == 2


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def one_tensor_less(folder):
    params = Transformer(architecture=QWEN3).init(jax.random.key(0))
    tensors = dict(to_hf(params, QWEN3))
    del tensors["model.layers.1.self_attn.q_norm.weight"]
    write_folder(folder, QWEN3, tensors)


def another_kind(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))


def a_list_as_config(folder):
    (folder / "config.json").write_text("[]")


def no_config(folder):
    (folder / "config.json").unlink()


def more_ids_than_rows(folder):
    pieces_tokenizer([*PIECES, "a lot", "of", "new", "pieces", "x1", "x2"]).save(folder)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (cut_short, "model.safetensors is truncated: tensor"),
        (one_tensor_less, "1 of 24 tensors missing: model.layers.1.self_attn.q_norm."),
        (
            another_kind,
            "config.json: model_type 'gpt2' is not supported; known: ['qwen",
        ),
        (a_list_as_config, "config.json: expected a JSON object, got []"),
        (no_config, "is neither a run's folder nor a Hugging Face folder"),
        (more_ids_than_rows, "the tokenizer has 105 ids, but model"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(words, tmp_path, capsys, harm, told):
    harm(tmp_path / "model")
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0] and str(tmp_path) in lines[0]
    assert not (tmp_path / "results").exists()
