"""A group's prompt is prefilled once, whatever the group size."""

import jax
import numpy as np
import pytest

from jaxsearch.data.question import Question
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.sampling import TopKTopP
from tests.models.test_transformer import QWEN, make
from tests.programs import compile_to_read

PROMPT_LEN, GROUP_SIZE = 1024, 8


def prefill_flops(num_prompts):
    """FLOPs of the compiled program, as counted by XLA."""
    transformer, params = make(QWEN)
    programs = Programs(
        transformer=transformer,
        end_ids=(0,),
        max_turn_len=8,
        truncation=TopKTopP(),
        seed=0,
    )
    lowered = Programs.prefill.lower(
        programs,
        jax.eval_shape(transformer.for_rollouts, params),
        jax.ShapeDtypeStruct((num_prompts, PROMPT_LEN), np.int32),
        jax.ShapeDtypeStruct((num_prompts,), np.int32),
        64,
    )
    return compile_to_read(lowered).cost_analysis()["flops"]


@pytest.mark.slow
def test_a_group_of_eight_costs_an_eighth_of_eight_prompts():
    shared, separate = prefill_flops(1), prefill_flops(GROUP_SIZE)
    assert shared > 2 * PROMPT_LEN * 10_000  # more than the blocks' products
    np.testing.assert_allclose(separate / shared, GROUP_SIZE, rtol=0.02)


@pytest.mark.slow
def test_the_sampler_prefills_a_prompt_once_for_its_group(kit):
    sampler = kit.sampler(GROUP_SIZE)

    def num_prefilled(num_questions, group_size):
        questions = [
            (i, Question(id=str(i), question=" red blue", golden_answers=()))
            for i in range(num_questions)
        ]
        _, timing = sampler.run(
            kit.params,
            questions,
            kit.environment(),
            group_size=group_size,
            stage=0,
            temperature=1.0,
        )
        return timing.num_prefilled

    assert num_prefilled(GROUP_SIZE, 1) == GROUP_SIZE * num_prefilled(1, GROUP_SIZE)
