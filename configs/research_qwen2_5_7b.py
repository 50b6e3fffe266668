"""ReSearch with Qwen2.5-7B-Instruct on MuSiQue: the paper's run.

Paper      ReSearch (arXiv:2503.19470) and its code: GRPO, 256 questions a step x 5
           answers, 5 passages a search, temperature 1, 2 epochs of MuSiQue's 19,938
           training questions, learning rate 1e-6, clip 0.2, KL (k3) 0.001, entropy
           0.001, AdamW with weight decay 0.01, gradients clipped at norm 1.
Departs    8,192 tokens hold prompt, answer and results (theirs: 512 and 8,192); an
           answer searches 16 times at most and a turn has at most 2,048 tokens
           (theirs: no bound but the length); advantages divide by the population's
           standard deviation (their code: the sample's); passages are searched with
           ScaNN (theirs: exactly); the wording of the prompt is ours.
Data       --data.questions: MuSiQue's training questions; --data.heldout: some of its
           development questions; --retrieval.index: wiki-18 in pieces of 100 words,
           encoded with E5 (jaxsearch index build --corpus FILE
           --encoder intfloat/e5-base-v2 --query-prefix "query: "
           --passage-prefix "passage: " --out FOLDER).
Hardware   TPU v5e 4x4 (16 chips). jaxsearch plan configs/research_qwen2_5_7b.py
           --topology v5e:4x4 says what it takes of them.
Command    jaxsearch train configs/research_qwen2_5_7b.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER, on every host
Result     not yet measured
"""

from jaxsearch.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data import sample
from jaxsearch.mesh import MeshShape
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig

config = RunConfig(
    model=ModelConfig(
        path="Qwen/Qwen2.5-7B-Instruct",
        prompt="chat",
        dtype="bfloat16",
        is_rematerialised=True,
    ),
    data=DataConfig(material=sample.material),
    retrieval=RetrievalConfig(num_passages=5),
    rollout=RolloutConfig(
        # The cache holds 24 rollouts of full length: 30 are all that fit.
        num_slots=64,
        cache_len=24 * 8192,
        max_len=8192,
        max_prompt_len=512,
        max_turn_len=2048,
        max_observation_len=1024,
        max_searches=16,
        tensor=4,
    ),
    stages=(
        RLStage(
            name="search",
            steps=154,  # 2 epochs of 77 whole batches
            recipe="research",
            questions_per_step=256,
            group_size=5,
            max_tokens=4 * 8192,  # a row of full length for every four chips
            objective=PolicyObjective(kl_weight=0.001, entropy_weight=0.001),
            optimizer=OptimizerConfig(learning_rate=1e-6),
        ),
    ),
    eval=EvalConfig(every=10, limit=100),
    mesh=MeshShape(tensor=4),
)
