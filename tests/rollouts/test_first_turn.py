"""Rollouts that begin with a search which the protocol makes for the policy."""

import numpy as np
import pytest

from tests.environments import turns
from tests.protocols import changed


@pytest.mark.slow
def test_every_rollout_begins_with_its_question_searched(kit, questions):
    protocol = changed(kit.protocol, first_turn=lambda question: f"{question} go")
    plain = kit.environment()
    environment = kit.environment(protocol=protocol)

    def rolled_out(**budgets):
        sampler = kit.sampler(16, protocol=protocol, **budgets)
        done, _ = sampler.run(
            kit.params, questions, environment, group_size=2, stage=2, temperature=1.0
        )
        return done

    done = rolled_out()
    for (_, question), one in zip(np.repeat(questions, 2, axis=0), done, strict=True):
        asked = question.question.strip()
        first = one.tool_calls[0]
        assert first.query.strip() == asked and first.passage_ids == (first.query,)
        [seen] = plain.step(turns(f"{question.question} go"))
        end = one.prompt_len + len(seen.ids)
        assert one.tokens[one.prompt_len : end].tolist() == seen.ids
        assert not one.is_policy[one.prompt_len : end].any()
        assert one.is_policy[end]
        assert not one.segments[0].is_policy and one.segments[1].is_policy
    # The protocol's own search counts, but does not lift the limit of the policy's.
    assert max(len(one.tool_calls) for one in done) > 1
    assert {len(one.tool_calls) for one in rolled_out(max_calls=0)} == {1}
    # However long they wait for a search.
    for one, again in zip(done, rolled_out(search_calls=2), strict=True):
        np.testing.assert_array_equal(one.tokens, again.tokens)
        assert one.tool_calls == again.tool_calls
    whole = kit.trainer_logprobs(done, 1.0)
    for one, row in zip(done, whole, strict=True):
        own = one.is_policy
        np.testing.assert_allclose(one.logprobs[own], row[: len(own)][own], rtol=2e-4)


def test_a_first_search_that_fails_ends_the_rollout(kit, questions):
    class Failing:
        def search(self, queries, k):
            raise OSError("down")

    protocol = changed(kit.protocol, first_turn=lambda question: f"{question} go")
    environment = kit.environment(Failing(), protocol=protocol)
    sampler = kit.sampler(16, protocol=protocol)
    done, _ = sampler.run(
        kit.params, questions, environment, group_size=1, stage=2, temperature=1.0
    )
    assert {str(one.status) for one in done} == {"search_failed"}
    assert all(len(one.tokens) == one.prompt_len for one in done)
