"""ReSearch's recipe with Qwen2.5-1.5B-Instruct and LoRA, on one accelerator.

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
Hardware   one accelerator of 16 GB that computes in bfloat16, as a TPU v5e chip.
Command    jaxsearch train configs/small_qwen2_5_1_5b.py
Estimate   jaxsearch plan configs/small_qwen2_5_1_5b.py --topology v5e:1x1 --no-compile
           (by arithmetic): of a device's 16.9 GB the update takes 13.7, rollouts 12.8,
           and 118 slots of 2,048 tokens would fit a copy; a step whose 128 rollouts are
           all as long as they may be takes at least 26 s (17 of updates), 200 of them
           1.5 hours. A compiler may want a sixth more memory than arithmetic:
           --stages.0.max-tokens and --rollout.num-slots make room.
Result     not yet run on an accelerator
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.small("Qwen/Qwen2.5-1.5B-Instruct", steps=200, questions_per_step=16),
    mesh=MeshShape(),
    num_slots=48,
    rows_at_once=1,
)
