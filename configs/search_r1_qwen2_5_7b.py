"""Search-R1 with Qwen2.5-7B (base) and GRPO.

Paper      Search-R1 (arXiv:2503.09516) as its code runs it: GRPO, 512 questions x 5
           answers per step, 10 updates per step, 1,005 steps, 3 passages per search, 4
           searches, turns and results of 500 tokens, temperature 1, learning rate 1e-6
           after 286 steps of warm-up, clip 0.2, KL (k3) 0.001 in the loss, entropy
           0.001; the reward is exact match. All numbers: jaxsearch/papers.py.
Differs    rows of 4,608 tokens that keep their question, turns that end at their tag,
           sampling without top-p, one mean over an update's policy tokens, ScaNN. The
           full list: configs/README.md, "Search-R1".
Data       --data.questions: Search-R1's training file of NQ and HotpotQA;
           --data.heldout: questions of its test file; --retrieval.index: wiki-18
           encoded with E5 (configs/README.md, "Data").
Machine    8 H100 of 80 GB, as theirs.
Command    jaxsearch train configs/search_r1_qwen2_5_7b.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER
Cost       jaxsearch plan configs/search_r1_qwen2_5_7b.py --topology h100:8 --no-compile
           (by arithmetic): of the 80.0 GB of a device, the update takes 28.8 and
           rollouts 47.6; 186 slots of 4,608 tokens fit a copy of the policy. A step
           whose 2,560 rollouts have full length takes at least 157 s (111 of updates),
           1,005 steps 43.7 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.search_r1("Qwen/Qwen2.5-7B"),
    mesh=MeshShape(),
    num_slots=128,
    full_slots=64,
    rows_at_once=8,  # one per GPU
)
