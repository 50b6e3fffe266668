"""The remaining reference values of `conformance_losses`; 246 cases in total.

Where our result differs on purpose, the test's docstring explains how and why.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rl import losses as kinds
from jaxsearch.rl.advantages import group_centred, group_relative, leave_one_out
from jaxsearch.rl.aggregation import (
    fixed_length,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from jaxsearch.rl.losses import clipped_policy_loss, sequence_log_ratio, token_log_ratio
from jaxsearch.rl.returns import discounted_returns, whitened
from tests.rl.critic import adapted_kl_weight, gae, value_loss

COUNTED_ELSEWHERE = {
    "research_grpo_advantage",  # test_advantages
    "research_policy_loss",  # test_losses
    "research_kl_penalty",  # test_losses
    "research_actor_loss",  # test_objectives
    "research_entropy_and_logprob",  # test_head
}
COUNTED_HERE = {
    *("search_r1_grpo_advantage", "verl_main_grpo_advantage"),
    *("verl_main_rloo_advantage", "verl_main_reinforce_pp_baseline_advantage"),
    *("research_reinforce_pp_advantage", "verl_main_reinforce_pp_advantage"),
    *("research_remax_advantage", "research_gae", "verl_main_gae"),
    *("verl_main_policy_loss_dual_clip", "r1_searcher_policy_loss"),
    *("verl_main_kl_penalty", "r1_searcher_approx_kl", "verl_main_agg_loss"),
    *("research_value_loss", "research_masked_whiten", "search_r1_apply_kl_penalty"),
    *("r1_searcher_reward_shaping", "r1_searcher_reward_kl_return"),
    *("r1_searcher_global_normalize", "r1_searcher_reinforce_pp_pipeline"),
    "trl_grpo_loss",
}


# verl's normalisation; the defaults are those of R1-Searcher.
VERL = {"ddof": 1, "min_variance": 0.0, "added_variance": 1e-8}


def test_no_function_of_the_reference_is_left_out(vectors):
    counts = {name: len(list(vectors(name))) for name in vectors.names}
    assert counts.keys() == COUNTED_ELSEWHERE | COUNTED_HERE
    assert sum(counts.values()) == 246


def by_groups(estimate, rewards, index, **options):
    """Applies an estimator of whole groups to groups of different sizes."""
    advantages = np.zeros(len(rewards))
    for group in np.unique(index):
        members = index == group
        if members.sum() > 1:
            found = estimate(jnp.asarray(rewards[members])[None], **options)
            advantages[members] = found[0]
    return advantages


def is_alone_or_equal(rewards, index):
    """Rows whose group carries no signal: groups of one, or of equal rewards."""
    return np.array([np.unique(rewards[index == group]).size == 1 for group in index])


GROUPED = {
    "search_r1_grpo_advantage": lambda given: (group_relative, {"eps": 1e-6}),
    "verl_main_grpo_advantage": lambda given: (
        (group_relative, {"eps": 1e-6})
        if given["norm_adv_by_std_in_grpo"]
        else (group_centred, {})
    ),
    "verl_main_rloo_advantage": lambda given: (leave_one_out, {}),
}


@pytest.mark.parametrize("name", GROUPED)
def test_advantages_within_groups(vectors, name):
    """Equal except for groups of one (raw rewards there) and equal rewards.

    Neither carries information about the policy. Here a group of one is an error, and
    the advantage of equal rewards is exactly 0; there it is rounding noise divided by
    eps.
    """
    for _, dtype, given, expected, tol in vectors(name):
        mask = given["response_mask" if "verl" in name else "eos_mask"] > 0
        rewards, index = given["token_level_rewards"].sum(axis=1), given["index"]
        estimate, options = GROUPED[name](given)
        with jax.enable_x64(dtype == np.float64):
            advantages = by_groups(estimate, rewards, index, **options)
        has_none = is_alone_or_equal(rewards, index)
        assert (advantages[has_none] == 0.0).all()
        wanted = expected["advantages"][~has_none]
        found = advantages[~has_none, None] * mask[~has_none]
        np.testing.assert_allclose(found, wanted, **tol)


def test_reinforce_with_a_group_baseline(vectors):
    for _, dtype, given, expected, tol in vectors(
        "verl_main_reinforce_pp_baseline_advantage"
    ):
        rewards, index = given["token_level_rewards"].sum(axis=1), given["index"]
        mask = given["response_mask"] > 0
        with jax.enable_x64(dtype == np.float64):
            centred = by_groups(group_centred, rewards, index)
            rows = jnp.asarray(centred.astype(dtype)[:, None] * mask)
            [advantages] = whitened([rows], [jnp.asarray(mask)], **VERL)
        np.testing.assert_allclose(advantages, expected["advantages"], **tol)


def returns_of(given, mask):
    ones = jnp.ones(mask.shape, jnp.int32)
    rewards = jnp.asarray(given["token_level_rewards"])
    return discounted_returns(
        rewards, jnp.asarray(mask), ones, gamma=float(given["gamma"])
    )


@pytest.mark.slow
def test_reinforce_plus_plus(vectors):
    """ReSearch's code restarts the return before every hole in the mask.

    Tokens before the last search then get no reward for the answer. We carry the return
    past observations, as verl does, so ReSearch's cases with holes are compared only
    where no hole follows.
    """
    num_with_holes = 0
    for name, key in (
        ("verl_main_reinforce_pp_advantage", "response_mask"),
        ("research_reinforce_pp_advantage", "eos_mask"),
    ):
        for case, dtype, given, expected, tol in vectors(name):
            mask = given[key] > 0
            # Neither reads a reward at a position that does not count.
            with jax.enable_x64(dtype == np.float64):
                returns = np.asarray(returns_of(given, mask))
                [advantages] = whitened(
                    [jnp.asarray(returns)], [jnp.asarray(mask)], **VERL
                )
            if "hole" in case:
                num_with_holes += 1
                last = np.array(
                    [np.flatnonzero(~row[: row.nonzero()[0][-1]])[-1:] for row in mask],
                    object,
                )
                is_after = np.array(
                    [
                        np.arange(len(row)) > (hole[0] if len(hole) else -1)
                        for row, hole in zip(mask, last, strict=True)
                    ]
                )
                wanted = np.where(is_after & mask, expected["returns"], 0.0)
                found = np.where(is_after & mask, returns, 0.0)
                np.testing.assert_allclose(found, wanted, **tol)
                continue
            np.testing.assert_allclose(
                returns, np.where(mask, expected["returns"], 0.0), **tol
            )
            np.testing.assert_allclose(advantages, expected["advantages"], **tol)
    assert num_with_holes


def test_remax(vectors):
    for _, dtype, given, expected, tol in vectors("research_remax_advantage"):
        mask = given["eos_mask"] > 0
        with jax.enable_x64(dtype == np.float64):
            returns = np.asarray(returns_of({**given, "gamma": 1.0}, mask))
        baseline = given["reward_baselines"][:, None] * mask
        np.testing.assert_allclose(
            returns, np.where(mask, expected["returns"], 0), **tol
        )
        found = returns - baseline
        np.testing.assert_allclose(
            found, np.where(mask, expected["advantages"], 0), **tol
        )


@pytest.mark.parametrize(
    ("name", "key"), [("verl_main_gae", "response_mask"), ("research_gae", "eos_mask")]
)
def test_generalised_advantages(vectors, name, key):
    """ReSearch's code bootstraps from every value, including observations and padding.

    The critic's values of text that the policy did not write then affect the policy. We
    skip them, as verl's newer code does. The sums agree where every token counts.
    """
    for case, dtype, given, expected, tol in vectors(name):
        mask = given[key] > 0
        with jax.enable_x64(dtype == np.float64):
            advantages, returns = gae(
                jnp.asarray(given["token_level_rewards"]),
                jnp.asarray(given["values"]),
                jnp.asarray(mask if "verl" in name else np.ones_like(mask)),
                gamma=float(given["gamma"]),
                lam=float(given["lam"]),
            )
            [normalised] = whitened([advantages], [jnp.asarray(mask)], **VERL)
        for found, key_of in ((returns, "returns"), (normalised, "advantages")):
            wanted = np.where(mask, expected[key_of], 0.0)
            found = np.where(mask, found, 0.0)
            np.testing.assert_allclose(found, wanted, err_msg=case, **tol)


def gradient_of(total, logprobs):
    (loss, extra), grad = jax.value_and_grad(total, has_aux=True)(jnp.asarray(logprobs))
    return float(loss), extra, np.asarray(grad)


def in_float64(aggregation, num_tokens, max_len=0):
    """An aggregation with float64 weights, as precise as the reference."""
    weights, divisor = aggregation(num_tokens, max_len=max_len)
    if aggregation is sequence_mean:
        np.testing.assert_allclose(weights * np.maximum(num_tokens, 1), 1.0, rtol=1e-6)
        weights = 1.0 / np.maximum(num_tokens, 1)
    return weights, divisor


def aggregated(losses, mask, weights, divisor):
    per_row = jnp.asarray(weights)[:, None]
    return jnp.sum(jnp.where(jnp.asarray(mask), losses * per_row, 0.0)) / divisor


VERL_MODES = {
    "token-mean": token_mean,
    "seq-mean-token-mean": sequence_mean,
    "seq-mean-token-sum": sequence_sum,
    "seq-mean-token-sum-norm": fixed_length,
}


@pytest.mark.slow
def test_dual_clip_with_every_aggregation(vectors):
    for case, dtype, given, expected, tol in vectors("verl_main_policy_loss_dual_clip"):
        mask = given["response_mask"] > 0
        mode = given["loss_agg_mode"]
        num_tokens = mask.sum(axis=1)
        weights, divisor = in_float64(VERL_MODES[mode], num_tokens, mask.shape[1])

        def total(logprobs, given=given, mask=mask, weights=weights, divisor=divisor):
            loss_mask = jnp.asarray(mask)
            ones = jnp.ones(mask.shape, jnp.int32)
            old = jnp.asarray(given["old_log_prob"])
            losses, is_clipped = clipped_policy_loss(
                token_log_ratio(logprobs, old, loss_mask, ones),
                jnp.asarray(given["advantages"]),
                loss_mask,
                clip_low=given["cliprange_low"],
                clip_high=given["cliprange_high"],
                max_ratio=given["clip_ratio_c"],
            )
            return aggregated(losses, mask, weights, divisor), is_clipped

        with jax.enable_x64(dtype == np.float64):
            loss, _, grad = gradient_of(total, given["log_prob"])
        np.testing.assert_allclose(loss, expected["pg_loss"], err_msg=case, **tol)
        np.testing.assert_allclose(grad, expected["grad_log_prob"], err_msg=case, **tol)


@pytest.mark.slow
def test_r1_searchers_policy_loss(vectors):
    """A row without policy tokens is NaN there, and not part of the mean here."""
    num_empty = 0
    for case, dtype, given, expected, tol in vectors("r1_searcher_policy_loss"):
        mask = given["retrieve_mask"] > 0
        weights, divisor = in_float64(sequence_mean, mask.sum(axis=1))

        def total(logprobs, given=given, mask=mask, weights=weights, divisor=divisor):
            loss_mask = jnp.asarray(mask)
            ones = jnp.ones(mask.shape, jnp.int32)
            old = jnp.asarray(given["old_log_probs"])
            losses, _ = clipped_policy_loss(
                token_log_ratio(logprobs, old, loss_mask, ones),
                jnp.asarray(given["advantages"]),
                loss_mask,
                clip_low=given["clip_eps"],
                clip_high=given["clip_eps"],
            )
            return aggregated(losses, mask, weights, divisor), None

        with jax.enable_x64(dtype == np.float64):
            loss, _, grad = gradient_of(total, given["log_probs"])
        if not mask.any(axis=1).all():
            assert np.isnan(expected["loss"]) and np.isfinite(loss)
            assert np.isfinite(grad).all()
            num_empty += 1
            continue
        np.testing.assert_allclose(loss, expected["loss"], err_msg=case, **tol)
        wanted = expected["grad_log_probs"]
        np.testing.assert_allclose(grad, wanted, err_msg=case, **tol)
    assert num_empty == 1


ESTIMATORS = {
    "kl": kinds.kl_k1,
    "k1": kinds.kl_k1,
    "abs": kinds.kl_abs,
    "mse": kinds.kl_k2,
    "k2": kinds.kl_k2,
    "low_var_kl": kinds.kl_k3,
    "k3": kinds.kl_k3,
    "k1+": kinds.kl_k1_straight,
    "k3+": kinds.kl_k3_straight,
}


@pytest.mark.slow
def test_kl_of_verl(vectors):
    for case, dtype, given, expected, tol in vectors("verl_main_kl_penalty"):
        estimate = ESTIMATORS[given["kl_penalty"]]

        def total(logprobs, given=given, estimate=estimate):
            everywhere = jnp.ones(logprobs.shape, bool)
            kl = estimate(logprobs, jnp.asarray(given["ref_logprob"]), everywhere)
            return jnp.sum(kl), kl

        with jax.enable_x64(dtype == np.float64):
            _, kl, grad = gradient_of(total, given["logprob"])
        np.testing.assert_allclose(kl, expected["kl"], err_msg=case, **tol)
        np.testing.assert_allclose(grad, expected["grad_logprob"], err_msg=case, **tol)


def test_kl_of_r1_searcher(vectors):
    """Its k3 has no bound; ours clips the log-ratio at 20 against overflow."""
    for case, _, given, expected, tol in vectors("r1_searcher_approx_kl"):
        args = [
            jnp.asarray(given["log_probs"]),
            jnp.asarray(given["log_probs_base"]),
            jnp.asarray(given["retrieve_mask"] > 0),
        ]
        if given["use_kl_estimator_k3"]:
            kl = kinds.kl_k3(*args, bound=np.inf)
        else:
            kl = kinds.kl_k1(*args)
        is_near = args[1] - args[0] < 20.0
        assert is_near.all() or case == "k3_spread6.0"
        wanted = np.where(is_near, expected["kl"], kl)
        np.testing.assert_allclose(kl, wanted, err_msg=case, **tol)


def test_aggregation(vectors):
    """Token sums are not divided there; if no token counts, both are NaN."""
    for case, dtype, given, expected, tol in vectors("verl_main_agg_loss"):
        mode, mask = given["loss_agg_mode"], given["loss_mask"] > 0
        num_tokens = mask.sum(axis=1)
        max_len = int(given.get("loss_scale_factor", mask.shape[1]))
        weights, divisor = np.ones(len(mask)), 1.0
        if mode != "token-sum":
            weights, divisor = in_float64(VERL_MODES[mode], num_tokens, max_len)
        if case.endswith("_global"):
            # Part of an update: divided by the count of the whole update, times the
            # number of processes that later take the mean.
            whole = given.get("batch_num_tokens", given.get("global_batch_size"))
            divisor = divisor if whole is None else whole / given["dp_size"]
        with jax.enable_x64(dtype == np.float64):
            total = aggregated(jnp.asarray(given["loss_mat"]), mask, weights, 1.0)
            with np.errstate(invalid="ignore"):
                loss = np.float64(total) / np.float64(divisor)
        np.testing.assert_allclose(loss, expected["loss"], err_msg=case, **tol)


@pytest.mark.slow
def test_value_loss(vectors):
    for case, dtype, given, expected, tol in vectors("research_value_loss"):
        mask = given["eos_mask"] > 0

        def total(values, given=given, mask=mask):
            losses, is_clipped = value_loss(
                values,
                jnp.asarray(given["values"]),
                jnp.asarray(given["returns"]),
                jnp.asarray(mask),
                clip=given["cliprange_value"],
            )
            return jnp.sum(losses) / mask.sum(), is_clipped

        with jax.enable_x64(dtype == np.float64):
            loss, is_clipped, grad = gradient_of(total, given["vpreds"])
        np.testing.assert_allclose(loss, expected["vf_loss"], err_msg=case, **tol)
        np.testing.assert_allclose(grad, expected["grad_vpreds"], err_msg=case, **tol)
        share = is_clipped.sum() / mask.sum()
        np.testing.assert_allclose(share, expected["vf_clipfrac"], rtol=1e-6)


def test_normalisation_over_tokens(vectors):
    for _, dtype, given, expected, tol in vectors("research_masked_whiten"):
        mask = given["mask"] > 0
        with jax.enable_x64(dtype == np.float64):
            [found] = whitened(
                [jnp.asarray(given["values"])], [jnp.asarray(mask)], **VERL
            )
        found = np.asarray(found)
        wanted = np.where(mask, expected["whitened"], 0.0)
        np.testing.assert_allclose(found, wanted, **tol)
        mean = given["values"][mask].mean()
        wanted = np.where(mask, expected["whitened_no_shift"], 0.0)
        np.testing.assert_allclose(np.where(mask, found + mean, 0.0), wanted, **tol)


def padded(rows, fill=0.0):
    width = max(len(row) for row in rows)
    return np.stack(
        [np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows]
    )


def test_normalisation_over_the_buffer_of_r1_searcher(vectors):
    """Masked positions get -mean / std there (the loss masks them) and 0 here."""
    for case, _, given, expected, tol in vectors("r1_searcher_global_normalize"):
        mask = padded(given["retrieve_mask"]) > 0
        values = jnp.asarray(padded(given["advantages"]))
        [found] = whitened([values], [jnp.asarray(mask)])
        wanted = np.where(mask, padded(expected["advantages"]), 0.0)
        np.testing.assert_allclose(found, wanted, err_msg=case, **tol)


def test_kl_in_the_reward(vectors):
    """KL per token, with Search-R1's controllers of its weight."""
    for case, dtype, given, expected, tol in vectors("search_r1_apply_kl_penalty"):
        mask = given["info_mask"] > 0
        controller = given["controller"]
        weight = float(controller.get("init_kl_coef", controller.get("kl_coef", 0.0)))
        estimate = ESTIMATORS[given["kl_penalty"]]
        with jax.enable_x64(dtype == np.float64):
            kl = np.asarray(
                estimate(
                    jnp.asarray(given["old_log_probs"]),
                    jnp.asarray(given["ref_log_prob"]),
                    jnp.asarray(mask),
                )
            )
        rewards = given["token_level_scores"] - weight * kl
        np.testing.assert_allclose(
            rewards, expected["token_level_rewards"], err_msg=case, **tol
        )
        measured = float((kl.sum(1) / mask.sum(1)).mean())
        np.testing.assert_allclose(measured, expected["current_kl"], **tol)
        assert weight == expected["kl_coef_used"]
        after = weight
        if controller["type"] == "adaptive":
            after = adapted_kl_weight(
                weight,
                measured,
                target=float(controller["target_kl"]),
                horizon=float(controller["horizon"]),
                num_rollouts=len(mask),
            )
        np.testing.assert_allclose(after, expected["kl_coef_after"], **tol)


R1_SHAPING = {
    "group_norm": lambda rewards: group_relative(rewards, eps=1e-9),
    "reinforce_baseline": group_centred,
    "rloo": leave_one_out,
}


def shaped(given):
    rewards = jnp.asarray(given["rewards"]).reshape(
        -1, int(given["n_samples_per_prompt"])
    )
    return np.asarray(R1_SHAPING[given["advantage_estimator"]](rewards)).reshape(-1)


def test_r1_searchers_shaping(vectors):
    """Its std + 1e-9 turns rounding of equal rewards into advantages of about 1.

    Ours are exactly 0, because the group carries no signal.
    """
    for case, _, given, expected, tol in vectors("r1_searcher_reward_shaping"):
        found = shaped(given)
        size = int(given["n_samples_per_prompt"])
        groups = np.asarray(given["rewards"]).reshape(-1, size)
        is_equal = np.repeat((groups == groups[:, :1]).all(axis=1), size)
        assert (found[is_equal] == 0.0).all()
        wanted = np.where(is_equal, 0.0, expected["rewards"])
        np.testing.assert_allclose(found, wanted, err_msg=case, **tol)


def kl_returns(advantages, kl, mask, weight, gamma):
    """Returns as computed in a stage: reward at the end, KL at every token."""
    ends = np.zeros(mask.shape, np.float32)
    ones = jnp.ones(mask.shape, jnp.int32)
    kl = jnp.asarray(kl, jnp.float32)
    costs = discounted_returns(kl, jnp.asarray(mask), ones, gamma=gamma)
    for row, counted in zip(ends, mask, strict=True):
        row[np.flatnonzero(counted)[-1:]] = 1.0
    ends *= advantages[:, None]
    paid = discounted_returns(jnp.asarray(ends), jnp.asarray(mask), ones, gamma=gamma)
    return np.where(mask, paid - weight * costs, 0.0)


def over_policy_tokens(advantages, kl, mask, weight, gamma):
    """The same with a loop that leaves out retrieved tokens."""
    returns = np.zeros(mask.shape)
    for row, (advantage, counted) in enumerate(zip(advantages, mask, strict=True)):
        after = None
        for t in np.flatnonzero(counted)[::-1]:
            after = advantage if after is None else gamma * after
            after = returns[row, t] = after - weight * kl[row, t]
    return returns


def r1_case(given):
    """Shaped and clipped rewards, KL, mask, KL weight and gamma."""
    mask = padded([np.asarray(row) for row in given["retrieve_mask"]]) > 0
    low, high = given["reward_clip_range"]
    if "kl" in given:
        rewards, kl = np.asarray(given["r"]), padded(list(given["kl"]))
    else:
        rewards = shaped(given)
        logprobs, references = (
            jnp.asarray(padded(list(given[name])))
            for name in ("log_probs", "ref_log_probs")
        )
        kl = np.asarray(kinds.kl_k1(logprobs, references, jnp.asarray(mask)))
    weight, gamma = float(given["kl_coef"]), float(given["gamma"])
    return np.clip(rewards, low, high), np.where(mask, kl, 0.0), mask, weight, gamma


def counts_observations(given, mask):
    """Whether discounting, which counts every token there, passes retrieved tokens.

    We count only policy tokens. With gamma 1, R1-Searcher's setting, both agree.
    """
    lengths = np.array([len(row) for row in given["retrieve_mask"]])
    return float(given["gamma"]) != 1.0 and (mask.sum(axis=1) < lengths).any()


@pytest.mark.slow
def test_r1_searchers_returns(vectors):
    for case, _, given, expected, tol in vectors("r1_searcher_reward_kl_return"):
        args = r1_case(given)
        mask = args[2]
        found = kl_returns(*args)
        wanted = np.where(mask, padded(list(expected["returns"])), 0.0)
        if counts_observations(given, mask):
            wanted = over_policy_tokens(*args)
        np.testing.assert_allclose(found, wanted, err_msg=case, **tol)


@pytest.mark.slow
def test_r1_searchers_pipeline(vectors):
    for case, _, given, expected, tol in vectors("r1_searcher_reinforce_pp_pipeline"):
        args = r1_case(given)
        mask = args[2]
        found = kl_returns(*args)
        wanted = np.where(mask, padded(list(expected["advantages"])), 0.0)
        is_normalised = given["advantage_estimator"] != "group_norm"
        if counts_observations(given, mask):
            wanted = over_policy_tokens(*args)
            if is_normalised:
                counted = wanted[mask]
                wanted -= np.where(mask, counted.mean(), 0.0)
                wanted /= max(counted.std(), 1e-4)
        if is_normalised:
            [found] = whitened([jnp.asarray(found)], [jnp.asarray(mask)])
        np.testing.assert_allclose(found, wanted, err_msg=case, **tol)


def trl_weights(given, mask):
    """Weights and divisor of TRL's loss types, by our names."""
    num_tokens = mask.sum(axis=1)
    if given["loss_type"] == "grpo":
        return 1.0 / np.maximum(num_tokens, 1), float(len(mask))
    if given["loss_type"] == "dr_grpo":
        return fixed_length(num_tokens, max_len=int(given["max_completion_length"]))
    return token_mean(num_tokens, max_len=0)


@pytest.mark.slow
def test_losses_of_trl(vectors):
    """Its "dapo" divides by the tokens of all processes; in one, a token mean."""
    log_ratios = {"token": token_log_ratio, "sequence": sequence_log_ratio}
    for case, dtype, given, expected, tol in vectors("trl_grpo_loss"):
        mask = (given["completion_mask"] * given["tool_mask"]) > 0
        weights, divisor = trl_weights(given, mask)
        if given["loss_type"] == "dapo":
            divisor = float(given["num_items_in_batch"])
        level = log_ratios[given["importance_sampling_level"]]

        def total(
            logprobs,
            given=given,
            mask=mask,
            level=level,
            weights=weights,
            divisor=divisor,
        ):
            loss_mask = jnp.asarray(mask)
            ones = jnp.ones(mask.shape, jnp.int32)
            old = jnp.asarray(given["old_per_token_logps"])
            losses, _ = clipped_policy_loss(
                level(logprobs, old, loss_mask, ones),
                jnp.broadcast_to(jnp.asarray(given["advantages"])[:, None], mask.shape),
                loss_mask,
                clip_low=given["epsilon_low"],
                clip_high=given["epsilon_high"],
                max_ratio=given["delta"],
            )
            if given["beta"]:
                reference = jnp.asarray(given["ref_per_token_logps"])
                kl = kinds.kl_k3(logprobs, reference, loss_mask, bound=np.inf)
                losses += given["beta"] * kl
            return aggregated(losses, mask, weights, divisor), None

        with jax.enable_x64(dtype == np.float64):
            loss, _, grad = gradient_of(total, given["per_token_logps"])
        np.testing.assert_allclose(loss, expected["loss"], err_msg=case, **tol)
        np.testing.assert_allclose(grad, expected["grad_logps"], err_msg=case, **tol)
