"""Search-R1 with Qwen2.5-3B (base) and GRPO.

Paper      Search-R1 (arXiv:2503.09516) and its code: GRPO, 512 questions a step x 5
           answers, mini-batches of 256 rollouts (10 updates a step), 1,005 steps, 3
           passages a search, 4 searches, turns and results of 500 tokens, temperature
           1, learning rate 1e-6 after 286 steps of warm-up, clip 0.2, KL (k3) 0.001 in
           the loss, entropy 0.001, AdamW with weight decay 0.01, gradients clipped at
           norm 1; reward: exact match; a turn without a query is answered with a
           reminder; the chat template, of base models too. The numbers:
           jaxsearch/papers.py.
Departs    a prompt has at most 512 tokens and a row 4,608 (theirs: 2,048; and 4,096,
           cut from the left, before each turn of 500): no row loses its question; a
           turn ends at its tag (theirs: it samples 500 tokens, cuts the text after the
           tag and tokenises it again), and a turn of 500 tokens without one ends the
           row (theirs: it is answered with the reminder); the last answer that the
           policy wrote counts wherever it stands (theirs: the prompt's own example is
           its first match, so that a missing answer is scored as the example); tokens
           are drawn from all (the paper too; their code's settings cut at top-p 0.95);
           a group of equal rewards has advantage 0 exactly (theirs: rounding, divided
           by 1e-6); the loss is one mean over an update's policy tokens (theirs: a mean
           of micro-batches' means); passages are searched with ScaNN (theirs: exactly
           or with HNSW); the wording of the prompt is ours. The paper trains 500 steps;
           1,005, and how mini-batches are counted, are its scripts as we read them.
Data       --data.questions: Search-R1's training file of NQ and HotpotQA
           (PeterJinGo/nq_hotpotqa_train on the Hub); --data.heldout: questions of its
           test file; --retrieval.index: wiki-18 in pieces of 100 words, encoded with E5
           (jaxsearch index build --corpus FILE --encoder intfloat/e5-base-v2
           --query-prefix "query: " --passage-prefix "passage: " --out FOLDER).
Hardware   8 H100 of 80 GB, as theirs.
Command    jaxsearch train configs/search_r1_qwen2_5_3b.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER
Estimate   jaxsearch plan configs/search_r1_qwen2_5_3b.py --topology h100:8 --no-compile
           (by arithmetic): of a device's 80.0 GB the update takes 14.0, rollouts 34.3,
           and 396 slots of 4,608 tokens would fit a copy; a step whose 2,560 rollouts
           are all as long as they may be takes at least 81 s (50 of updates), 1,005 of
           them 22.5 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.search_r1("Qwen/Qwen2.5-3B"),
    mesh=MeshShape(),
    num_slots=128,
    rows_at_once=16,  # two for every GPU
)
