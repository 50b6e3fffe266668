"""Learning rates at the steps that matter, and invalid settings."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.rl.optimizer import OptimizerConfig, learning_rate, make_optimizer


def rates(num_updates, steps, **config):
    schedule = learning_rate(OptimizerConfig(learning_rate=2.0, **config), num_updates)
    return [float(schedule(step)) for step in steps]


def test_warm_up_then_cosine_at_every_corner():
    """W = 4 of 12 updates: cosine from the peak (step 3) to 0.1 of it (step 11)."""
    got = rates(12, [0, 1, 3, 7, 11, 12, 99], warmup_steps=4, final_share=0.1)
    np.testing.assert_allclose(got, [0.5, 1.0, 2.0, 1.1, 0.2, 0.2, 0.2], rtol=1e-6)


def test_constant_without_warm_up_and_fall():
    """ReSearch: 1e-6 from the first update to the last."""
    assert rates(10, [0, 1, 5, 9]) == [2.0] * 4


def test_cosine_without_warm_up():
    got = rates(5, range(5), final_share=0.0)
    half = 1 + 0.5**0.5  # 2 * (1 + cos(pi / 4)) / 2
    np.testing.assert_allclose(got, [2.0, half, 1.0, 2 - half, 0.0], atol=1e-6)


@pytest.mark.parametrize("num_updates", [1, 3, 4])
def test_a_stage_no_longer_than_its_warm_up_only_rises(num_updates):
    got = rates(num_updates, range(num_updates), warmup_steps=4, final_share=0.1)
    np.testing.assert_allclose(got, [0.5, 1.0, 1.5, 2.0][:num_updates], rtol=1e-6)


def test_the_gradient_is_clipped_by_its_global_norm():
    """With beta1 = beta2 = 0, the second moment is the squared clipped gradient.

    AdamW's step would show only the gradient's sign.
    """
    config = OptimizerConfig(learning_rate=1.0, max_grad_norm=1.0, beta2=0.0)
    optimizer = make_optimizer(config, 10)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}  # norm 5
    _, state = optimizer.update(grads, optimizer.init(params), params)
    (adam,) = [x for x in state[1] if isinstance(x, optax.ScaleByAdamState)]
    np.testing.assert_allclose(adam.nu["a"], [0.36], rtol=1e-6)
    np.testing.assert_allclose(adam.nu["b"], [0.64], rtol=1e-6)


def test_a_stage_without_updates_is_refused():
    with pytest.raises(ValueError, match="num_updates must be at least 1, got 0"):
        make_optimizer(OptimizerConfig(), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("max_grad_norm", -1.0),
        ("final_share", 1.5),
        ("beta2", 1.0),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_value(name, value):
    with pytest.raises(ValueError, match=rf"{name[:4]}.*got .*{value}"):
        OptimizerConfig(**{name: value})
