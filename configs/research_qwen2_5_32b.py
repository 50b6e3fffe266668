"""ReSearch with Qwen2.5-32B (base) on MuSiQue: the paper's larger run.

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
Machine    TPU v5p 4x4x4 (64 chips; the paper: 64 H800).
Command    jaxsearch train configs/research_qwen2_5_32b.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER, on every host
Cost       jaxsearch plan configs/research_qwen2_5_32b.py --topology v5p:4x4x4
           --no-compile (by arithmetic): of the 102.8 GB of a device, the update takes
           19.4 and rollouts 67.6; 145 slots of 8,192 tokens fit a copy of the policy. A
           step whose 1,280 rollouts have full length takes at least 167 s (123 of
           updates), 154 steps 7.1 hours. Compiled: 22.7 GB for the update, 70.8 GB for
           rollouts, 139 slots.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.research("Qwen/Qwen2.5-32B", prompt="base"),
    mesh=MeshShape(tensor=4),
    tensor=4,
    num_slots=80,  # the 1,280 rollouts of a step, on 16 hosts
    rows_at_once=16,  # one per four chips
)
