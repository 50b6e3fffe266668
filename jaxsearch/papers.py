"""Settings from the papers, shared by the configs of each paper.

A config chooses a model, takes the paper's run from this module, and adapts it to a
machine. configs/README.md lists how the runs differ from the papers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from jaxsearch.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    RetrievalConfig,
    RLStage,
    RolloutConfig,
    RunConfig,
)
from jaxsearch.data import sample
from jaxsearch.data.dataset import no_dataset
from jaxsearch.mesh import MeshShape
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.rewards import tasks
from jaxsearch.rl.advantages import group_centred, group_relative
from jaxsearch.rl.aggregation import sequence_mean, token_mean
from jaxsearch.rl.losses import kl_k3
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig

MUSIQUE_QUESTIONS = 19_938  # in its training set
# Questions of medium difficulty from HotpotQA and 2WikiMultiHopQA.
R1_SEARCHER_STAGE1_QUESTIONS = 350
# Medium and difficult questions from the same sets.
R1_SEARCHER_STAGE2_QUESTIONS = 8_148

# ReSearch and Search-R1 both use verl's actor, with GRPO's KL in the loss.
_VERL_OBJECTIVE = PolicyObjective(
    clip_low=0.2, clip_high=0.2, kl=kl_k3, kl_weight=0.001, entropy_weight=0.001
)


def on_machine(
    config: RunConfig,
    *,
    mesh: MeshShape,
    num_slots: int,
    rows_at_once: int,
    tensor: int = 1,
    full_slots: int | None = None,
) -> RunConfig:
    """A paper's run adapted to a machine; these sizes do not change its result.

    Args:
      config: the paper's run.
      mesh: devices along each axis of the training mesh.
      num_slots: slots per replica.
      rows_at_once: full-length rows per microbatch of the update.
      tensor: devices per replica.
      full_slots: full-length rollouts that a replica's cache holds; None for one per
        slot.
    """
    max_len = config.rollout.max_len
    return dataclasses.replace(
        config,
        rollout=dataclasses.replace(
            config.rollout,
            num_slots=num_slots,
            tensor=tensor,
            cache_len=None if full_slots is None else full_slots * max_len,
        ),
        stages=tuple(
            dataclasses.replace(stage, max_tokens=rows_at_once * max_len)
            for stage in config.stages
        ),
        mesh=mesh,
    )


def research(path: str, *, prompt: Literal["base", "chat"]) -> RunConfig:
    """ReSearch (arXiv:2503.19470) on MuSiQue, with the settings of its code."""
    questions_per_step = 256
    return RunConfig(
        model=_large(path, prompt),
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(num_passages=5),
        rollout=RolloutConfig(
            max_len=8192,
            max_prompt_len=512,
            max_turn_len=2048,
            max_observation_len=1024,
            max_searches=16,
        ),
        stages=(
            RLStage(
                name="search",
                task=tasks.RESEARCH,
                steps=2 * (MUSIQUE_QUESTIONS // questions_per_step),
                questions_per_step=questions_per_step,
                group_size=5,
                advantage=group_relative,
                aggregation=token_mean,
                objective=_VERL_OBJECTIVE,
                optimizer=OptimizerConfig(
                    learning_rate=1e-6,
                    beta1=0.9,
                    beta2=0.999,
                    weight_decay=0.01,
                    max_grad_norm=1.0,
                ),
            ),
        ),
        eval=EvalConfig(every=10, limit=100),
    )


def r1_searcher(
    path: str, *, prompt: Literal["base", "chat"], stages: tuple[RLStage, ...]
) -> RunConfig:
    """R1-Searcher (arXiv:2503.05592) with the settings of its code and these stages."""
    return RunConfig(
        model=_large(path, prompt),
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(num_passages=3),
        rollout=RolloutConfig(
            max_len=8192,
            max_prompt_len=1024,
            max_turn_len=512,
            max_observation_len=1024,
            max_searches=8,
            top_p=0.95,
        ),
        stages=stages,
        eval=EvalConfig(every=20, limit=100),
    )


def r1_searcher_stage(
    name: str,
    task: tasks.Task,
    *,
    num_questions: int,
    questions_per_step: int,
    reward_kl_weight: float,
    advantage: Callable[..., Any] = group_centred,
    whiten_advantages: bool = True,
) -> RLStage:
    """A stage of R1-Searcher: one pass over its questions, in whole batches.

    The default advantages are those of REINFORCE++ with a baseline: rewards minus their
    group mean, whitened over all tokens of a step.
    """
    return RLStage(
        name=name,
        task=task,
        steps=num_questions // questions_per_step,
        questions_per_step=questions_per_step,
        group_size=16,
        minibatches_per_step=4,
        advantage=advantage,
        whiten_advantages=whiten_advantages,
        reward_kl_weight=reward_kl_weight,
        aggregation=sequence_mean,
        objective=PolicyObjective(clip_low=0.2, clip_high=0.2, kl_weight=0.0),
        optimizer=OptimizerConfig(
            learning_rate=2e-6,
            final_share=0.1,
            beta1=0.9,
            beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=1.0,
        ),
    )


def search_r1(path: str) -> RunConfig:
    """Search-R1 (arXiv:2503.09516) with GRPO and the settings of its code."""
    num_steps, minibatches_per_step = 1005, 10
    return RunConfig(
        # Search-R1's code uses the chat template even for base models.
        model=_large(path, "chat"),
        data=DataConfig(source=no_dataset),
        retrieval=RetrievalConfig(num_passages=3),
        rollout=RolloutConfig(
            max_len=4608,
            max_prompt_len=512,
            max_turn_len=500,
            max_observation_len=500,
            max_searches=4,
            has_reminder=True,
        ),
        stages=(
            RLStage(
                name="search",
                task=tasks.SEARCH_R1,
                steps=num_steps,
                questions_per_step=512,
                group_size=5,
                minibatches_per_step=minibatches_per_step,
                advantage=group_relative,
                aggregation=token_mean,
                objective=_VERL_OBJECTIVE,
                optimizer=OptimizerConfig(
                    learning_rate=1e-6,
                    warmup_steps=int(0.285 * num_steps) * minibatches_per_step,
                    beta1=0.9,
                    beta2=0.999,
                    weight_decay=0.01,
                    max_grad_norm=1.0,
                ),
            ),
        ),
        eval=EvalConfig(every=100, limit=500),
    )


def small(path: str, *, steps: int, questions_per_step: int) -> RunConfig:
    """ReSearch with LoRA, short rollouts and the packaged sample of questions."""
    whole = research(path, prompt="chat")
    [search] = whole.stages
    return dataclasses.replace(
        whole,
        model=dataclasses.replace(whole.model, lora=LoRAConfig(rank=32, alpha=64.0)),
        data=DataConfig(source=sample.dataset_with_heldout),
        retrieval=RetrievalConfig(num_passages=3),
        rollout=RolloutConfig(
            max_len=2048,
            max_prompt_len=384,
            max_turn_len=512,
            max_observation_len=512,
            max_searches=4,
        ),
        stages=(
            dataclasses.replace(
                search,
                steps=steps,
                questions_per_step=questions_per_step,
                group_size=8,
                optimizer=dataclasses.replace(
                    search.optimizer, learning_rate=2e-5, warmup_steps=5
                ),
            ),
        ),
    )


def _large(path: str, prompt: Literal["base", "chat"]) -> ModelConfig:
    return ModelConfig(path=path, prompt=prompt, dtype="bfloat16", remat=True)
