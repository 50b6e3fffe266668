"""R1-Searcher with Qwen2.5-7B (base), as its code trains it: one stage.

Paper      R1-Searcher (arXiv:2503.05592) and its code for Qwen, which has no first
           stage: 64 questions a step, 16 answers a question, 4 updates a step, rewards
           less their group's mean, then whitened over all tokens of the step
           (REINFORCE++ with a baseline), clip 0.2, the mean over an answer's tokens,
           then over answers; 3 passages a search, 8 searches, turns of 512 tokens,
           temperature 1, top-p 0.95; learning rate 2e-6 to a tenth in a cosine, Adam's
           betas 0.9 and 0.95, no weight decay, gradients clipped at norm 1; no KL;
           8,148 questions of HotpotQA and 2WikiMultihopQA; reward as that code's (F1,
           less 2 for a wrong format). The numbers: jaxsearch/papers.py.
Departs    8,192 tokens hold everything (theirs: 1,024 and 29,000, of which nine turns
           of 512 tokens and eight results fill a part); a result has at most 1,024
           tokens (theirs: no bound); the learning rate falls over the stage (their
           cosine is over 10,000 episodes, and they stopped by hand; how many steps they
           trained is not published: ours is one pass over the questions in whole
           batches); nothing that was inserted is trained on (theirs: the line breaks
           before the documents are); sampled tokens are kept (theirs: text is tokenised
           again after each search); rewards read what the policy wrote (theirs:
           retrieved text too, where the word "assistant" in a passage costs 2), in
           which document tags of the policy's own are bad format (theirs takes some),
           and a search that finds nothing costs nothing (theirs: 2); passages are
           searched with ScaNN (theirs: exactly); the wording of the prompt is ours.
Data       --data.questions: the authors' stage_2.jsonl (Hub:
           XXsongLALA/RAG-RL-Hotpotqa-with-2wiki), or one's own by `jaxsearch select`;
           --retrieval.index: abstracts of Wikipedia of October 2017 (HotpotQA's),
           encoded with BGE (jaxsearch index build --corpus FILE --encoder
           BAAI/bge-large-en-v1.5 --query-prefix "Represent this sentence for searching
           relevant passages: " --out FOLDER); evaluations of other sets search KILT's
           Wikipedia in pieces of 100 words.
Hardware   8 H100 of 80 GB (theirs: 8 GPUs, of which two sample and one or two hold the
           retriever).
Command    jaxsearch train configs/r1_searcher_qwen2_5_7b.py --data.questions
           stage_2.jsonl --data.heldout FILE --retrieval.index FOLDER
Estimate   jaxsearch plan configs/r1_searcher_qwen2_5_7b.py --topology h100:8
           --no-compile (by arithmetic): of a device's 80.0 GB the update takes 25.7,
           rollouts 49.3, and 113 slots of 8,192 tokens would fit a copy; a step whose
           1,024 rollouts are all as long as they may be takes at least 85 s (66 of
           updates), 127 of them 3.0 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape

config = papers.on_machine(
    papers.r1_searcher(
        "Qwen/Qwen2.5-7B",
        prompt="base",
        stages=(
            papers.r1_searcher_stage(
                "answer",
                "r1_searcher_qwen",
                num_questions=papers.R1_SEARCHER_STAGE2_QUESTIONS,
                questions_per_step=64,
                reward_kl_weight=0.0,
            ),
        ),
    ),
    mesh=MeshShape(),
    num_slots=64,
    full_slots=48,
    rows_at_once=8,  # one for every GPU
)
