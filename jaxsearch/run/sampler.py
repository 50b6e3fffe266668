"""Budgets and device programs of a config's rollouts."""

from collections.abc import Sequence

from jaxsearch.config import RolloutConfig, RunConfig
from jaxsearch.id_ranges import IdRanges
from jaxsearch.models.transformer import Transformer
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.sampling import TopKTopP


def rollout_budgets(rollout: RolloutConfig) -> Budgets:
    """The budgets of a config's rollouts."""
    return Budgets(
        num_slots=rollout.num_slots,
        max_len=rollout.max_len,
        max_prompt_len=rollout.max_prompt_len,
        max_turn_len=rollout.max_turn_len,
        max_observation_len=rollout.max_observation_len,
        max_calls=rollout.max_searches,
        search_calls=rollout.search_calls,
        cache_len=rollout.cache_len,
    )


def rollout_programs(
    config: RunConfig,
    transformer: Transformer,
    end_ids: Sequence[int],
    id_ranges: IdRanges | None = None,
) -> Programs:
    """The device programs of a config's rollouts.

    Args:
      config: config with the rollout settings and the seed.
      transformer: the network in the form that runs on a replica.
      end_ids: tokens that end a row.
      id_ranges: ids that have a token; None for all.
    """
    rollout = config.rollout
    return Programs(
        transformer=transformer,
        end_ids=tuple(end_ids),
        id_ranges=id_ranges,
        max_turn_len=rollout.max_turn_len,
        truncation=TopKTopP(top_k=rollout.top_k, top_p=rollout.top_p),
        seed=config.seed,
    )
