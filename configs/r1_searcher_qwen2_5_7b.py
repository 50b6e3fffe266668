"""R1-Searcher with Qwen2.5-7B (base) as its code trains it: one stage.

Paper      R1-Searcher (arXiv:2503.05592) and its code for Qwen, which has no first
           stage: 64 questions x 16 answers per step, 4 updates per step, REINFORCE++
           with the group's mean as baseline, clip 0.2, no KL, 3 passages per search, 8
           searches, turns of 512 tokens, temperature 1, top-p 0.95, learning rate 2e-6
           to a tenth in a cosine. The reward is F1, less 2 for a wrong format. All
           numbers: jaxsearch/papers.py.
Differs    rows of 8,192 tokens, results of at most 1,024, one pass over the questions
           of a stage, tokens kept as sampled, rewards that read only what the policy
           wrote, ScaNN. The full list: configs/README.md, "R1-Searcher".
Data       --data.questions: the authors' stage_2.jsonl (8,148 questions of HotpotQA and
           2WikiMultiHopQA), or your own by `jaxsearch select`; --retrieval.index:
           HotpotQA's abstracts of Wikipedia encoded with BGE (configs/README.md,
           "Data").
Machine    8 H100 of 80 GB (theirs: 8 GPUs, of which two sample and one or two hold the
           retriever).
Command    jaxsearch train configs/r1_searcher_qwen2_5_7b.py --data.questions
           stage_2.jsonl --data.heldout FILE --retrieval.index FOLDER
Cost       jaxsearch plan configs/r1_searcher_qwen2_5_7b.py --topology h100:8
           --no-compile (by arithmetic): of the 80.0 GB of a device, the update takes
           25.7 and rollouts 49.3; 113 slots of 8,192 tokens fit a copy of the policy. A
           step whose 1,024 rollouts have full length takes at least 85 s (66 of
           updates), 127 steps 3.0 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape
from jaxsearch.rewards import tasks

config = papers.on_machine(
    papers.r1_searcher(
        "Qwen/Qwen2.5-7B",
        prompt="base",
        stages=(
            papers.r1_searcher_stage(
                "answer",
                tasks.R1_SEARCHER_QWEN,
                num_questions=papers.R1_SEARCHER_STAGE2_QUESTIONS,
                questions_per_step=64,
                reward_kl_weight=0.0,
            ),
        ),
    ),
    mesh=MeshShape(),
    num_slots=64,
    full_slots=48,
    rows_at_once=8,  # one per GPU
)
