"""ReSearch's recipe with Qwen2.5-3B-Instruct and LoRA, on one accelerator.

Paper      ReSearch's recipe (arXiv:2503.19470): its tags, reward and GRPO, clip 0.2, KL
           (k3) 0.001, entropy 0.001, temperature 1. The numbers: jaxsearch/papers.py.
Departs    adapters of rank 32 are trained in place of all weights, at a learning rate
           of 2e-5 (theirs: 1e-6 for all of them), so that weights, optimizer and
           rollouts fit one accelerator; rows of 2,048 tokens, 4 searches of 3 passages
           (theirs: 8,192, no bound, 5); 32 questions x 8 answers a step (theirs: 256 x
           5); and all that configs/research_qwen2_5_7b.py departs in.
Data       the 300 HotpotQA and MuSiQue questions of the package, every sixth of which
           is held out, and their passages: nothing is downloaded but the model. For
           more: --data.questions, --data.heldout, --retrieval.index.
Hardware   one accelerator of 80 GB.
Command    jaxsearch train configs/small_qwen2_5_3b.py
Estimate   jaxsearch plan configs/small_qwen2_5_3b.py --topology h100:1 --no-compile (by
           arithmetic): of a device's 80.0 GB the update takes 28.7, rollouts 29.4, and
           798 slots of 2,048 tokens would fit a copy; a step whose 256 rollouts are all
           as long as they may be takes at least 18 s (13 of updates), 200 of them 1.0
           hours. A compiler may want a sixth more memory than arithmetic:
           --stages.0.max-tokens and --rollout.num-slots make room.
Result     not yet run on an accelerator
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.small("Qwen/Qwen2.5-3B-Instruct", steps=200, questions_per_step=32),
    mesh=MeshShape(),
    num_slots=128,
    rows_at_once=4,
)
