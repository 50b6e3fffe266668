"""ReSearch with Qwen2.5-7B-Instruct on MuSiQue: the paper's run.

Paper      ReSearch (arXiv:2503.19470) and its code: GRPO, 256 questions a step x 5
           answers, 5 passages a search, temperature 1, 2 epochs of MuSiQue's 19,938
           training questions, learning rate 1e-6, clip 0.2, KL (k3) 0.001 in the loss,
           entropy 0.001, AdamW with weight decay 0.01, gradients clipped at norm 1;
           advantages divide by the sample's standard deviation; reward as its code. The
           numbers: jaxsearch/papers.py.
Departs    8,192 tokens hold prompt, answer and results (theirs: 512 and 8,192), an
           answer searches 16 times at most and a turn has at most 2,048 tokens (theirs:
           no bound but the length), a result at most 1,024 (theirs: cut by the length
           alone): fixed shapes, and no query of 8,000 tokens; the loss is one mean over
           a step's policy tokens (theirs: of means over parts of it, which weighs
           tokens by the part they fall in); format and answer are read from what the
           policy wrote (theirs: from retrieved text too, so that a passage can break a
           format or end a row), in which result tags of the policy's own are bad format
           (theirs takes them); a group of equal rewards has advantage 0 exactly
           (theirs: rounding divided by 1e-6); passages are searched with ScaNN (theirs:
           exactly); the wording of the prompt is ours.
Data       --data.questions: MuSiQue's training questions; --data.heldout: some of its
           development questions; --retrieval.index: wiki-18 in pieces of 100 words,
           encoded with E5 (jaxsearch index build --corpus FILE --encoder
           intfloat/e5-base-v2 --query-prefix "query: " --passage-prefix "passage: "
           --out FOLDER).
Hardware   TPU v5e 4x4 (16 chips; the paper: 64 H800).
Command    jaxsearch train configs/research_qwen2_5_7b_instruct.py --data.questions FILE
           --data.heldout FILE --retrieval.index FOLDER, on every host
Estimate   jaxsearch plan configs/research_qwen2_5_7b_instruct.py --topology v5e:4x4
           --no-compile (by arithmetic): of a device's 16.9 GB the update takes 14.2,
           rollouts 14.4, and 45 slots of 8,192 tokens would fit a copy; a step whose
           1,280 rollouts are all as long as they may be takes at least 355 s (259 of
           updates), 154 of them 15.2 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.research("Qwen/Qwen2.5-7B-Instruct", prompt="chat"),
    mesh=MeshShape(tensor=4),
    tensor=4,
    num_slots=64,
    full_slots=24,  # 36 are all that fit
    rows_at_once=4,  # one for every four chips
)
