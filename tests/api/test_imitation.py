"""What `imitate` computes for a batch of demonstrations."""

import pytest

from jaxsearch.api.session import open_session
from jaxsearch.config import SupervisedStage
from jaxsearch.run.updates import make_batching
from tests.api.conftest import PASSAGES


@pytest.mark.parametrize(("batch_size", "rows"), [(3, 3), (1000, 20)])
def test_a_microbatch_is_no_larger_than_the_demonstrations_need(
    policy, batch_size, rows
):
    stage = SupervisedStage(
        name="imitation",
        demonstrations=lambda seed: [],
        steps=1,
        batch_size=batch_size,
        max_tokens=20 * 120,
    )
    run = open_session(
        policy,
        stage,
        retriever=PASSAGES,
        task=None,
        budgets=None,
        environment=None,
        num_passages=None,
        seed=0,
    )
    assert run.row_lens[-1] == 120
    assert make_batching(run, stage).max_tokens == rows * 120
