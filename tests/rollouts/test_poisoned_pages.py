"""A rollout that is not finite leaves no trace in those that reuse its pages."""

import numpy as np
import pytest

from jaxsearch.trajectory import Trajectory


def is_finite(trajectory: Trajectory) -> bool:
    return bool(np.isfinite(trajectory.logprobs).all())


@pytest.mark.slow
def test_only_rollouts_that_read_a_bad_row_are_not_finite(kit, questions, trajectories):
    """One word's embedding is NaN; a third of the rollouts sample it.

    The other rollouts are the same as with a good embedding, although four slots serve
    forty rollouts one after another.
    """
    word = kit.tokenizer.encode(" gone")[0]
    params = kit.params | {"embedding": kit.params["embedding"].at[word].set(np.nan)}
    found, _ = kit.sampler(4).run(
        params, questions, kit.environment(), group_size=4, stage=2, temperature=1.0
    )
    has_word = [word in good.tokens[:-1] for good in trajectories]
    assert 0.1 < np.mean(has_word) < 0.9
    for good, bad, has in zip(trajectories, found, has_word, strict=True):
        assert is_finite(bad) != has
        assert max(bad.tokens) < kit.transformer.architecture.vocab_size
        if not has:
            np.testing.assert_array_equal(good.tokens, bad.tokens)
            np.testing.assert_allclose(good.logprobs, bad.logprobs, rtol=1e-4)
