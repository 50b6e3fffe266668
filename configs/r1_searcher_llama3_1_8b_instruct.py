"""R1-Searcher with Llama-3.1-8B-Instruct, as its code trains it: two stages.

Paper      R1-Searcher (arXiv:2503.05592) and its code for Llama. Stage 1: 350
           questions, 15 a step, rewards standardised in their group (sample deviation);
           stage 2: 8,148 questions, 65 a step. Stage 2, and stage 1 but for its
           advantages: 16 answers a question, 4 updates a step, rewards less their
           group's mean, then whitened over all tokens of the step (REINFORCE++ with a
           baseline), clip 0.2, the mean over an answer's tokens, then over answers; 3
           passages a search, 8 searches, turns of 512 tokens, temperature 1, top-p
           0.95; learning rate 2e-6 to a tenth in a cosine, Adam's betas 0.9 and 0.95,
           no weight decay, gradients clipped at norm 1; KL (k1) 0.0001 in the reward,
           token by token. Rewards as that code's: stage 1 pays 1 for a right answer
           (else -1), 0.5 for searching, 0.5 for the format; stage 2 F1, less 1 for a
           wrong format. The numbers: jaxsearch/papers.py.
Departs    rewards are the code's, which pays for answers in stage 1 and takes 1 for a
           format where the paper pays for none and takes 2 (r1_searcher_stage1 and
           r1_searcher_stage2 are the paper's); the optimizer starts afresh in stage 2;
           8,192 tokens hold everything (theirs: 1,024 and 29,000, of which nine turns
           of 512 tokens and eight results fill a part); a result has at most 1,024
           tokens (theirs: no bound); the learning rate falls over the stage (their
           cosine is over 10,000 episodes, and they stopped by hand; how many steps they
           trained is not published: ours is one pass over the questions in whole
           batches); nothing that was inserted is trained on (theirs: the line breaks
           before the documents are); sampled tokens are kept (theirs: text is tokenised
           again after each search); rewards read what the policy wrote (theirs:
           retrieved text too), in which document tags of the policy's own are bad
           format (theirs takes some); a group of equal rewards has advantage 0 exactly
           (theirs: in stage 1 up to 0.9, of rounding); passages are searched with ScaNN
           (theirs: exactly); the wording of the prompt is ours.
Data       --stages.0.questions: the authors' stage_1.jsonl (350 questions),
           --stages.1.questions: their stage_2.jsonl (8,148; Hub:
           XXsongLALA/RAG-RL-Hotpotqa-with-2wiki), or one's own by `jaxsearch select`;
           --retrieval.index: abstracts of Wikipedia of October 2017 (HotpotQA's),
           encoded with BGE (jaxsearch index build --corpus FILE --encoder
           BAAI/bge-large-en-v1.5 --query-prefix "Represent this sentence for searching
           relevant passages: " --out FOLDER); evaluations of other sets search KILT's
           Wikipedia in pieces of 100 words.
Hardware   8 H100 of 80 GB (theirs: 8 GPUs, of which two sample and one or two hold the
           retriever).
Command    jaxsearch train configs/r1_searcher_llama3_1_8b_instruct.py
           --stages.0.questions stage_1.jsonl --stages.1.questions stage_2.jsonl
           --data.heldout FILE --retrieval.index FOLDER
Estimate   jaxsearch plan configs/r1_searcher_llama3_1_8b_instruct.py --topology h100:8
           --no-compile (the last stage's, by arithmetic): of a device's 80.0 GB the
           update takes 30.9, rollouts 66.6, and 44 slots of 8,192 tokens would fit a
           copy; a step whose 1,040 rollouts are all as long as they may be takes at
           least 117 s (91 of updates), 125 of them 4.1 hours.
Result     not yet measured
"""

from jaxsearch import papers
from jaxsearch.mesh import MeshShape
from jaxsearch.rl.advantages import group_relative

config = papers.on_machine(
    papers.r1_searcher(
        "meta-llama/Llama-3.1-8B-Instruct",
        prompt="chat",
        stages=(
            papers.r1_searcher_stage(
                "search",
                "r1_searcher_llama_stage1",
                num_questions=papers.R1_SEARCHER_STAGE1_QUESTIONS,
                questions_per_step=15,
                reward_kl_weight=1e-4,
                advantage=group_relative,
                whiten_advantages=False,
            ),
            papers.r1_searcher_stage(
                "answer",
                "r1_searcher_llama_stage2",
                num_questions=papers.R1_SEARCHER_STAGE2_QUESTIONS,
                questions_per_step=65,
                reward_kl_weight=1e-4,
            ),
        ),
    ),
    mesh=MeshShape(),
    num_slots=48,
    full_slots=32,
    rows_at_once=8,  # one for every GPU
)
