"""R1-Searcher with Llama-3.1-8B-Instruct as its code trains it: two stages.

Paper      R1-Searcher (arXiv:2503.05592) and its code for Llama. Stage 1: 350
           questions, 15 per step, GRPO's advantages; reward 1 for a right answer (else
           -1), 0.5 for searching, 0.5 for the format. Stage 2: 8,148 questions, 65 per
           step, REINFORCE++ with the group's mean as baseline; reward F1, less 1 for a
           wrong format. Both: 16 answers per question, 4 updates per step, KL (k1)
           0.0001 in the reward, clip 0.2, 3 passages per search, 8 searches, turns of
           512 tokens, temperature 1, top-p 0.95, learning rate 2e-6 to a tenth in a
           cosine. All numbers: jaxsearch/papers.py.
Differs    rewards are the code's; the paper's give nothing for answers in stage 1 and
           -2 for a wrong format (tasks r1_searcher_stage1 and r1_searcher_stage2);
           a fresh optimizer in stage 2; rows of 8,192 tokens, results of at most 1,024,
           one pass over the questions of a stage, tokens kept as sampled, rewards that
           read only what the policy wrote, ScaNN. The full list: configs/README.md,
           "R1-Searcher".
Data       --stages.0.questions: the authors' stage_1.jsonl (350 questions);
           --stages.1.questions: their stage_2.jsonl (8,148), or your own by `jaxsearch
           select`; --retrieval.index: HotpotQA's abstracts of Wikipedia encoded with
           BGE (configs/README.md, "Data").
Machine    8 H100 of 80 GB (theirs: 8 GPUs, of which two sample and one or two hold the
           retriever).
Command    jaxsearch train configs/r1_searcher_llama3_1_8b_instruct.py
           --stages.0.questions stage_1.jsonl --stages.1.questions stage_2.jsonl
           --data.heldout FILE --retrieval.index FOLDER
Cost       jaxsearch plan configs/r1_searcher_llama3_1_8b_instruct.py --topology h100:8
           --no-compile (last stage, by arithmetic): of the 80.0 GB of a device, the
           update takes 30.9 and rollouts 66.6; 44 slots of 8,192 tokens fit a copy of
           the policy. A step whose 1,040 rollouts have full length takes at least 117 s
           (91 of updates), 125 steps 4.1 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape
from jaxsearch.rewards import tasks
from jaxsearch.rl.advantages import group_relative

config = papers.on_machine(
    papers.r1_searcher(
        "meta-llama/Llama-3.1-8B-Instruct",
        prompt="chat",
        stages=(
            papers.r1_searcher_stage(
                "search",
                tasks.R1_SEARCHER_LLAMA_STAGE1,
                num_questions=papers.R1_SEARCHER_STAGE1_QUESTIONS,
                questions_per_step=15,
                reward_kl_weight=1e-4,
                advantage=group_relative,
                whiten_advantages=False,
            ),
            papers.r1_searcher_stage(
                "answer",
                tasks.R1_SEARCHER_LLAMA_STAGE2,
                num_questions=papers.R1_SEARCHER_STAGE2_QUESTIONS,
                questions_per_step=65,
                reward_kl_weight=1e-4,
            ),
        ),
    ),
    mesh=MeshShape(),
    num_slots=48,
    full_slots=32,
    rows_at_once=8,  # one per GPU
)
