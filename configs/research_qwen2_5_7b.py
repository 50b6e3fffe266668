"""ReSearch with Qwen2.5-7B (base) on MuSiQue: the paper's run.

Paper      ReSearch (arXiv:2503.19470) as its code runs it: GRPO, 256 questions x 5
           answers per step, 5 passages per search, temperature 1, two epochs of
           MuSiQue's training questions, learning rate 1e-6, clip 0.2, KL (k3) 0.001 in
           the loss, entropy 0.001. All numbers: jaxsearch/papers.py.
Differs    rows of 8,192 tokens with at most 16 searches, one mean over the policy
           tokens of a step, rewards that read only what the policy wrote, ScaNN. The
           full list: configs/README.md, "ReSearch".
Data       --data.questions: MuSiQue's training questions; --data.heldout: some of its
           development questions; --retrieval.index: wiki-18 encoded with E5
           (configs/README.md, "Data").
Machine    TPU v5e 4x4 (16 chips; the paper: 64 H800).
Command    jaxsearch train configs/research_qwen2_5_7b.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER, on every host
Cost       jaxsearch plan configs/research_qwen2_5_7b.py --topology v5e:4x4 --no-compile
           (by arithmetic): of the 16.9 GB of a device, the update takes 14.2 and
           rollouts 14.3; 46 slots of 8,192 tokens fit a copy of the policy. A step
           whose 1,280 rollouts have full length takes at least 355 s (259 of updates),
           154 steps 15.2 hours. Compiled: 16.4 GB for the update, 36 slots.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.research("Qwen/Qwen2.5-7B", prompt="base"),
    mesh=MeshShape(tensor=4),
    tensor=4,
    num_slots=64,
    full_slots=24,  # 36 would fit
    rows_at_once=4,  # one per four chips
)
