"""configs/smollm2_hotpotqa.py from end to end, with a small random policy."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.config import EvalConfig, LoggingConfig
from jaxsearch.evaluation.options import AnswerOptions
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.monitor.writers import read_evaluations, read_metrics
from jaxsearch.run.config_file import read_config
from jaxsearch.run.export import export_run
from jaxsearch.train import train
from tests.tokenizer_folders import write_tokenizer

CONFIG = Path(__file__).parents[2] / "configs" / "smollm2_hotpotqa.py"
NUM_QUESTIONS = 20


def small(out: Path):
    """The config with two steps and a small policy that reads bytes."""
    config = read_config(str(CONFIG))
    imitate, search = config.stages
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            path="",
            tokenizer=write_tokenizer(out / "tokenizer"),
            width=64,
            mlp_width=128,
            num_kv_heads=2,
            head_width=16,
            lora=LoRAConfig(rank=2),
        ),
        retrieval=dataclasses.replace(config.retrieval, dims=64),
        rollout=dataclasses.replace(
            config.rollout,
            num_slots=10,
            replicas=1,
            max_len=1024,
            max_prompt_len=480,
            max_turn_len=320,
        ),
        stages=(
            dataclasses.replace(imitate, steps=1, batch_size=2, max_tokens=1024),
            dataclasses.replace(
                search, steps=1, questions_per_step=1, group_size=2, max_tokens=1024
            ),
        ),
        eval=EvalConfig(limit=NUM_QUESTIONS),
        logging=LoggingConfig(wandb="disabled"),
        out=str(out / "run"),
    )


@pytest.mark.long
def test_transformers_gives_the_greedy_answers_of_the_exported_policy(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: the parity extra")
    from transformers import AutoModelForCausalLM

    config = small(tmp_path)
    train(config)
    stages = [line["stage"] for line in read_metrics(Path(config.out, "metrics.jsonl"))]
    assert stages == ["format", "search"]
    evaluated = {line["name"]: line["n"] for line in read_evaluations(Path(config.out))}
    names = ("before_rl", "after_rl", "after_rl_sampled", "empty_index")
    assert evaluated == dict.fromkeys(names, NUM_QUESTIONS)

    export_run(Path(config.out), tmp_path / "hf", dtype="float32")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    evaluate_to(
        tmp_path / "eval",
        model=config.out,
        checkpoint="last",
        answers=AnswerOptions(temperature=0.0, keeps_tokens=True),
    )
    lines = (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) >= NUM_QUESTIONS
    for line in map(json.loads, lines):
        ids = torch.tensor(line["ids"])
        with torch.no_grad():
            logits = theirs(ids[None]).logits[0]
        sampled = [i for start, end in line["policy_spans"] for i in range(start, end)]
        assert len(sampled) > 10
        # The token before predicts a token; theirs would choose the same one.
        before = logits[torch.tensor(sampled) - 1]
        chosen = before.gather(1, ids[sampled][:, None])[:, 0]
        assert (chosen >= before.max(dim=1).values - 1e-5).all()
