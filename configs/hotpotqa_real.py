"""ReSearch's task on real questions, passages and a real tokenizer, small.

Purpose    every part of a real run at a size that two cores can train: chat template,
           ScaNN index of Wikipedia passages, KL to a reference, checkpoints. The
           weights are random, so the run is not expected to learn.
Paper      ReSearch (arXiv:2503.19470): GRPO, 5 answers per question, temperature 1,
           clip 0.2, KL (k3) 0.001.
Differs    random weights of a small Qwen2 that never writes a tag, so the run starts
           with a supervised stage on templated demonstrations; 4 questions per step
           instead of 256; rollouts of at most 768 tokens instead of 8,192 + 512; 2
           passages per search instead of 5, and at most 2 searches; learning rate 1e-4
           instead of 1e-6; no entropy bonus (theirs: 0.001).
Data       300 HotpotQA and MuSiQue questions with their passages, in the package.
Machine    two CPU cores.
Command    jaxsearch train configs/hotpotqa_real.py --model.tokenizer FOLDER (a Qwen2.5
           tokenizer; --model.path takes a whole Hugging Face model)
Result     not yet measured on an accelerator
"""

from jaxsearch.config import (
    DataConfig,
    LoggingConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data import sample
from jaxsearch.rewards import tasks
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig

config = RunConfig(
    model=ModelConfig(
        width=128,
        mlp_width=384,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=32,
        rope_theta=10_000.0,
    ),
    data=DataConfig(source=sample.dataset),
    retrieval=RetrievalConfig(num_passages=2),
    rollout=RolloutConfig(
        num_slots=20,
        max_len=768,
        max_prompt_len=288,
        max_turn_len=96,
        max_observation_len=128,
        max_searches=2,
    ),
    stages=(
        SupervisedStage(
            name="format",
            demonstrations=sample.short_demonstrations,
            steps=100,
            batch_size=4,
            max_tokens=3072,
            optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5, beta2=0.98),
        ),
        RLStage(
            name="search",
            steps=100,
            task=tasks.RESEARCH,
            questions_per_step=4,
            group_size=5,
            max_tokens=2304,
            objective=PolicyObjective(kl_weight=0.001),
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=2),
        ),
    ),
    logging=LoggingConfig(rollouts_every=1),
)
