"""A real language model learns to search, on two CPU cores.

Purpose    SmolLM2-135M-Instruct (134,515,008 parameters), real questions and 31,442
           real passages in ScaNN: ReSearch's task at a size whose whole run two cores
           finish in about 100 minutes.
Paper      ReSearch (arXiv:2503.19470): its tags and reward, GRPO, temperature 1, clip
           0.2. HotpotQA, because of R1-Searcher's own questions (its stage 2) the
           answer of only one in twenty stands in a passage of this corpus that is
           found.
Differs    instructions of one sentence (133 tokens by default); a short supervised
           stage on templated demonstrations, because a model of this size does not
           follow the format unasked; adapters of rank 16 at 2e-4 (theirs: all weights
           at 1e-6); 4 questions x 10 answers per step (theirs: 256 x 5); 2 passages per
           search, of which 144 tokens are read, and at most 2 searches (theirs: 5,
           whole, and no bound); KL weight 0 and no entropy bonus, so that rollouts
           without an advantage can be left out of the update.
Data       questions, held-out questions and an index are given on the command line;
           without them, the package's 300 HotpotQA and MuSiQue questions with their
           passages, every sixth held out. Training questions are those that a search
           with the question answers: jaxsearch index select -k 2 --words 80 keeps 369
           of HotpotQA's 898 (370 on another machine). It looks at no other questions.
           The demonstrations are of 112 packaged training questions, none of which is
           held out or in HotpotQA's development set.
Machine    two CPU cores, 6 GB.
Command    python launch/smollm2.py models/smollm2
           jaxsearch train configs/smollm2_hotpotqa.py
           The whole run: configs/README.md, "A real language model".
Count      at 200 GFLOP/s in large products and 95 in decoding (measured):

                                      tokens   TFLOP   GB held   seconds
           a rollout                     280
             prompt                       55
             written by the policy        85
             observations                140
           an RL step, 40 rollouts
             prompts and observations  5,800     1.2       2.2         6
             decoding                  3,400     0.9       2.2        10
             update, all rollouts     11,200     6.3       2.9        52
             update, 45% left out      6,200     3.5       2.9        29
           a supervised step, 8 rows   2,400     1.5       2.9        13
           300 held-out questions     84,000      19       2.2       220

           80 RL steps of 45 to 68 s, 40 supervised steps and four evaluations take 85
           to 115 minutes. Of an update's FLOPs, 77% are the blocks (forward, and the
           gradient of the activations: adapters save the third that the gradients of
           all weights would take), 13% attention within rows of 768 tokens, and 10% the
           head, at the policy's tokens alone. One row takes 3.6 s: its large products
           run at the rate above, attention at a quarter of it. Memory is that of
           jaxsearch plan. One passage per search would take 35 tokens less, but answers
           33% of HotpotQA's training questions, not 42%; two whole ones 51%, for 75
           tokens more. The 25 programs of the rollout take 158 s to compile, once.
Result     of earlier settings (4 x 5 answers, 25 supervised steps): configs/README.md.
           Those above are not measured yet.
"""

from jaxsearch import load_task
from jaxsearch.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoggingConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data import sample
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig

# A prompt of 55 tokens on average, where ReSearch's instructions alone take 133.
INSTRUCTIONS = "Search for what you need to know, read the passages, then answer."

config = RunConfig(
    model=ModelConfig(
        path="models/smollm2",
        pack_sequences=True,
        lora=LoRAConfig(rank=16, alpha=32.0),
    ),
    data=DataConfig(source=sample.dataset_with_heldout),
    retrieval=RetrievalConfig(num_passages=2),
    rollout=RolloutConfig(
        num_slots=40,
        max_len=768,  # three rollouts share a row in the update
        max_prompt_len=160,
        max_turn_len=96,  # some questions, copied as a query, take 80
        max_observation_len=144,
        max_searches=2,
        # The same numbers on every run. An index on this machine keeps nothing waiting.
        search_calls=1,
    ),
    stages=(
        SupervisedStage(
            name="format",
            demonstrations=sample.reading_demonstrations,
            steps=40,
            batch_size=8,
            max_tokens=768,
            optimizer=OptimizerConfig(
                learning_rate=5e-4, warmup_steps=5, final_share=0.1
            ),
        ),
        RLStage(
            name="search",
            steps=80,
            task=load_task("research", instructions=INSTRUCTIONS),
            questions_per_step=4,
            group_size=10,
            max_tokens=768,
            objective=PolicyObjective(kl_weight=0.0),
            drops_zero_advantages=True,
            optimizer=OptimizerConfig(
                learning_rate=2e-4, warmup_steps=5, final_share=0.1, weight_decay=0.0
            ),
        ),
    ),
    # The checkpoint at step 40 is the policy before RL.
    eval=EvalConfig(limit=300, num_printed=3),
    logging=LoggingConfig(rollouts_every=10),
    checkpoint=CheckpointConfig(every=10, keep_every=40, minutes=10.0),
)
