"""A first hour on a real chip: ReSearch's recipe with Qwen2.5-0.5B-Instruct and LoRA.

Paper      ReSearch's recipe (arXiv:2503.19470): its tags, reward and GRPO, clip 0.2, KL
           (k3) 0.001, entropy 0.001, temperature 1. The numbers: jaxsearch/papers.py.
Departs    adapters of rank 32 are trained in place of all weights, at a learning rate
           of 2e-5 (theirs: 1e-6 for all of them), so that weights, optimizer and
           rollouts fit one accelerator; rows of 2,048 tokens, 4 searches of 3 passages
           (theirs: 8,192, no bound, 5); 16 questions x 8 answers a step (theirs: 256 x
           5); and all that configs/research_qwen2_5_7b.py departs in.
Data       the 300 HotpotQA and MuSiQue questions of the package, every sixth of which
           is held out, and their passages: nothing is downloaded but the model. For
           more: --data.questions, --data.heldout, --retrieval.index.
Hardware   one accelerator of 16 GB that computes in bfloat16: a TPU v5e chip, or a GPU
           of Ampere's generation or later.
Command    jaxsearch train configs/small_qwen2_5_0_5b.py
To run     1. jaxsearch doctor: the accelerator is seen. 2. jaxsearch train
           configs/small_qwen2_5_0_5b.py --steps 2 --out runs/look: everything is
           downloaded and compiled, and two steps show what a step takes. 3. The command
           above; jaxsearch report runs/small_qwen2_5_0_5b, at any time, is the page
           with its curves and rollouts. 4. jaxsearch ask --model
           runs/small_qwen2_5_0_5b QUESTION.
To expect  the papers' smallest is 3B, so of 0.5B nothing is promised. First reward/mean
           goes towards 0.1, which is what a wrong answer in format is paid, and
           status/answered towards 1. Then searches/mean leaves what the prompt brings
           about (ReSearch's 7B: from 1.5 to 2 a rollout to 3.5 to 4, answers of 200 to
           400 tokens), and em and f1 follow, slowly. Search-R1 trains its 3B for 1,005
           steps of 2,560 rollouts (exact match 0.33 on HotpotQA, Instruct, GRPO); 100
           steps of 128 may show the first of these, hardly more.
To stop    if reward/mean is still below 0.02 after 30 steps (no rollout is in format: a
           group of zeros teaches nothing; take the 1.5B, or a warm-up as in
           configs/hotpotqa_real.py); if searches/mean falls below 0.3 while reward/mean
           stays (it answers from memory); if logprob_drift/max stays above 1 or
           grad_norm above ten times that of the first steps (what is sampled is not
           what is trained: report it); if len/policy runs into the budget. Users of
           these recipes saw collapses between steps 60 and 600: --checkpoint.keep 20
           leaves the policies before one.
Estimate   jaxsearch plan configs/small_qwen2_5_0_5b.py --topology v5e:1x1 --no-compile
           (by arithmetic): of a device's 16.9 GB the update takes 5.7, rollouts 5.0,
           and 537 slots of 2,048 tokens would fit a copy; a step whose 128 rollouts are
           all as long as they may be takes at least 8 s (5 of updates), 100 of them 0.2
           hours. A compiler may want a sixth more memory than arithmetic:
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
