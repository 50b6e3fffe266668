"""ReSearch's task with Qwen2.5-1.5B-Instruct and LoRA on one accelerator.

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
Machine    one accelerator of 16 GB that computes in bfloat16, such as a TPU v5e chip.
Command    jaxsearch train configs/small_qwen2_5_1_5b.py
Cost       jaxsearch plan configs/small_qwen2_5_1_5b.py --topology v5e:1x1 --no-compile
           (by arithmetic): of the 16.9 GB of a device, the update takes 13.7 and
           rollouts 12.8; 118 slots of 2,048 tokens fit a copy of the policy. A step
           whose 128 rollouts have full length takes at least 26 s (17 of updates), 200
           steps 1.5 hours. A compiler may want a sixth more memory:
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
