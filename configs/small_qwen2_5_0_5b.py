"""A first hour on one accelerator: ReSearch's task, Qwen2.5-0.5B-Instruct, LoRA.

Paper      ReSearch (arXiv:2503.19470): its tags, reward and GRPO, clip 0.2, KL (k3)
           0.001, entropy 0.001, temperature 1. All numbers: jaxsearch/papers.py.
Differs    adapters of rank 32 at a learning rate of 2e-5 instead of all weights at
           1e-6; rows of 2,048 tokens and 4 searches of 3 passages (theirs: 8,192, no
           bound, 5); 16 questions x 8 answers per step (theirs: 256 x 5); otherwise as
           configs/research_qwen2_5_7b.py. The full list: configs/README.md, "ReSearch
           on one accelerator".
Data       the package's 300 HotpotQA and MuSiQue questions, every sixth of which is
           held out, with their passages. Only the model is downloaded. For more:
           --data.questions, --data.heldout, --retrieval.index.
Machine    one accelerator of 16 GB that computes in bfloat16: a TPU v5e chip, or a GPU
           of Ampere's generation or later.
Command    jaxsearch train configs/small_qwen2_5_0_5b.py
To run     1. jaxsearch doctor shows the accelerator. 2. jaxsearch train
           configs/small_qwen2_5_0_5b.py --steps 2 --out runs/look downloads and
           compiles everything, and its two steps show the time per step. 3. The command
           above; at any time, jaxsearch report runs/small_qwen2_5_0_5b writes the page
           with its curves and rollouts. 4. jaxsearch ask --model
           runs/small_qwen2_5_0_5b QUESTION.
To expect  The papers' smallest model is 3B, so nothing is promised for 0.5B. First
           reward/mean rises to about 0.1, the reward of a wrong answer in the right
           format, and status/answered to about 1. Then searches/mean leaves the level
           that the prompt alone brings about (ReSearch's 7B: from 1.5-2 per rollout to
           3.5-4, answers of 200 to 400 tokens), and em and f1 follow slowly. Search-R1
           trains its 3B for 1,005 steps of 2,560 rollouts (exact match 0.33 on
           HotpotQA, Instruct, GRPO); 100 steps of 128 may show the first of these,
           hardly more.
To stop    if reward/mean is below 0.02 after 30 steps (no rollout has the right format,
           and a group of zeros teaches nothing; take the 1.5B, or a warm-up as in
           configs/hotpotqa_real.py); if searches/mean falls below 0.3 while reward/mean
           stays (it answers from memory); if logprob_drift/max stays above 1, or
           grad_norm above ten times that of the first steps (the trainer does not see
           what was sampled: report it); if len/policy reaches the budget. Users of
           these systems saw collapses between steps 60 and 600: --checkpoint.keep 20
           keeps the policies before one.
Cost       jaxsearch plan configs/small_qwen2_5_0_5b.py --topology v5e:1x1 --no-compile
           (by arithmetic): of the 16.9 GB of a device, the update takes 5.7 and
           rollouts 5.0; 537 slots of 2,048 tokens fit a copy of the policy. A step
           whose 128 rollouts have full length takes at least 8 s (5 of updates), 100
           steps 0.2 hours. A compiler may want a sixth more memory:
           --stages.0.max-tokens and --rollout.num-slots make room.
Result     not yet run on an accelerator
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.small("Qwen/Qwen2.5-0.5B-Instruct", steps=100, questions_per_step=16),
    mesh=MeshShape(),
    num_slots=64,
    rows_at_once=4,
)
