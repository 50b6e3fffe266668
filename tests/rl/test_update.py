"""Updates: gradient by provenance, invariance to batching and devices, and the step."""

import contextlib
import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.mesh import (
    MeshShape,
    activation_sharding,
    head_sharding,
    make_mesh,
    put_batch,
    row_multiple,
    shardings,
)
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl import head_chunks
from jaxsearch.rl.advantages import group_relative
from jaxsearch.rl.batching import TrainBatch, microbatches
from jaxsearch.rl.objectives import ImitationObjective, PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.rows import TrainRow
from jaxsearch.rl.update import Updater, begin_stage
from tests.programs import compile_to_read
from tests.segments import whole_rows

VOCAB = 48
OPTIMIZER = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=0), 100)


# A toy policy: the next token depends only on the last one, D = 8.


def toy_params(seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    return {
        "embedding": jax.random.normal(keys[0], (VOCAB, 8)),
        "head": 0.3 * jax.random.normal(keys[1], (VOCAB, 8)),
    }


def toy_updater(objective, optimizer=OPTIMIZER, **options):
    return Updater(
        forward=lambda params, tokens, segments: params["embedding"][tokens],
        head=lambda params: params["head"],
        objective=objective,
        optimizer=optimizer,
        **options,
    )


def toy_batch(seed=0, shape=(4, 12)):
    rng = np.random.default_rng(seed)
    loss_mask = rng.random(shape) < 0.5
    loss_mask[:, 0] = False
    return TrainBatch(
        tokens=rng.integers(0, VOCAB, shape, dtype=np.int32),
        segments=np.ones(shape, np.int32),
        loss_mask=loss_mask,
        behavior_logprobs=np.zeros(shape, np.float32),
        sampling_logprobs=np.zeros(shape, np.float32),
        old_logprobs=rng.uniform(-5, -3, shape).astype(np.float32),
        advantages=rng.normal(size=shape).astype(np.float32),
        weights=np.ones(shape, np.float32),
    )


def host(tree):
    return jax.tree.map(np.array, tree)


def joined_rows(*batches):
    return TrainBatch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def mean_gradient(updater, state, batches):
    """The gradient of the token mean, on the host, and the metrics."""
    sums, metrics = updater.gradient_sums(state, batches)
    weight = np.asarray(metrics["loss"].weight)
    return jax.tree.map(lambda total: np.asarray(total) / weight, sums), metrics


def assert_same_gradient(got, want):
    """Per tensor ||dg|| / ||g|| <= 1e-5."""
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        norm = np.linalg.norm(other)
        assert norm > 0.0, path
        error = np.linalg.norm(one - other) / norm
        assert error <= 1e-5, (jax.tree_util.keystr(path), error)


# ---------------------------------------------------------------- provenance

#              prompt  turn, stop tag  observation      turn, end token  padding
PROVENANCE = [*"PPP", *"sss", "S", *"ooooo", *"ss", "E", *"..."]


@pytest.fixture(scope="module")
def provenance():
    """Gradients of the hidden states of a row with a search and of an empty row.

    The hidden states are the parameters, so that each position has separate gradients.
    """
    row_len, length = len(PROVENANCE), len(PROVENANCE) - 3
    loss_mask = np.array([author in "sSE" for author in PROVENANCE])
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (2, row_len), dtype=np.int32)
    batch = TrainBatch(
        tokens=tokens,
        segments=whole_rows([length, 0], row_len),
        loss_mask=np.stack([loss_mask, np.zeros(row_len, bool)]),
        behavior_logprobs=np.zeros((2, row_len), np.float32),
        sampling_logprobs=np.zeros((2, row_len), np.float32),
        old_logprobs=np.full((2, row_len), -3.9, np.float32),
        advantages=np.ones((2, row_len), np.float32),
        weights=np.ones((2, row_len), np.float32),
    )
    params = {
        "hidden": jnp.asarray(rng.normal(size=(2, row_len, 8)), jnp.float32),
        "head": jnp.asarray(0.1 * rng.normal(size=(VOCAB, 8)), jnp.float32),
    }
    updater = Updater(
        forward=lambda params, tokens, segments: params["hidden"],
        head=lambda params: params["head"],
        objective=PolicyObjective(kl_weight=0.1, entropy_weight=0.1),
        optimizer=OPTIMIZER,
    )
    state = begin_stage(params, OPTIMIZER, needs_reference=True)
    reference = jax.tree.map(lambda x: 1.1 * x, params)
    return updater, state._replace(reference=reference), batch


def test_only_sampled_tokens_send_a_gradient_and_each_of_them_does(provenance):
    updater, state, batch = provenance
    grads, metrics = mean_gradient(updater, state, [batch])
    sizes = np.abs(grads["hidden"]).sum(-1)
    # A token is predicted from the position before it.
    is_read = np.pad(batch.loss_mask[:, 1:], ((0, 0), (0, 1)))
    assert (sizes[~is_read] == 0.0).all()
    assert (sizes[is_read] > 0.0).all()
    # They include the stop tag and the end token, which the policy sampled.
    for token in "SE":
        assert sizes[0, PROVENANCE.index(token) - 1] > 0.0
    assert metrics["loss"].weight == 7  # sss S ss E


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_what_others_wrote_is_read_nowhere(provenance, poison):
    """Poisons all inputs at positions that do not count."""
    updater, state, batch = provenance
    want, want_metrics = mean_gradient(updater, state, [batch])
    is_read = np.pad(batch.loss_mask[:, 1:], ((0, 0), (0, 1)))[..., None]
    hidden = {
        name: {**params, "hidden": jnp.where(is_read, params["hidden"], poison)}
        for name, params in (("params", state.params), ("reference", state.reference))
    }
    poisoned = batch._replace(
        old_logprobs=np.where(batch.loss_mask, batch.old_logprobs, poison),
        advantages=np.where(batch.loss_mask, batch.advantages, poison),
    )
    got, metrics = mean_gradient(updater, state._replace(**hidden), [poisoned])
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert jax.tree.map(float, metrics) == jax.tree.map(float, want_metrics)


def test_imitation_is_cross_entropy_of_the_demonstrated_tokens():
    """Retrieved tokens have no loss, weight or entropy."""
    params, batch = toy_params(), toy_batch()

    def cross_entropy(params):
        logits = params["embedding"][batch.tokens[:, :-1]] @ params["head"].T
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch.tokens[:, 1:]
        )
        return jnp.mean(losses, where=batch.loss_mask[:, 1:])

    state = begin_stage(params, OPTIMIZER, needs_reference=False)
    grads, metrics = mean_gradient(toy_updater(ImitationObjective()), state, [batch])
    loss, want = jax.jit(jax.value_and_grad(cross_entropy))(params)
    assert_same_gradient(grads, want)
    np.testing.assert_allclose(metrics["loss"].value, loss, rtol=1e-6)
    assert metrics["loss"].weight == batch.loss_mask.sum()


# ---------------------------------------------------------------- invariance

TRANSFORMER = Transformer(
    architecture=Architecture(
        vocab_size=VOCAB,
        width=32,
        mlp_width=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
    )
)


@pytest.fixture(scope="module")
def rows():
    """16 rows of 5 to 32 tokens; from one policy token to nearly all."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(16):
        length = int(rng.integers(5, 33))
        loss_mask = rng.random(length) < (i + 1) / 16
        loss_mask[0], loss_mask[-1] = False, True
        made.append(
            TrainRow(
                tokens=rng.integers(0, VOCAB, length, dtype=np.int32),
                loss_mask=loss_mask,
                behavior_logprobs=rng.uniform(-4.5, -3.0, length).astype(np.float32),
                sampling_logprobs=np.zeros(length, np.float32),
                advantages=float(rng.normal()),
            )
        )
    return made


@pytest.fixture(scope="module")
def transformer():
    """An updater of a real decoder with a reference and chunks smaller than a row."""
    updater = Updater(
        forward=TRANSFORMER.hidden,
        head=TRANSFORMER.head,
        objective=PolicyObjective(kl_weight=0.1, entropy_weight=0.01),
        optimizer=OPTIMIZER,
        temperature=0.8,
    )
    init = jax.jit(TRANSFORMER.init)
    params, reference = (init(jax.random.key(seed)) for seed in (0, 1))
    state = begin_stage(params, OPTIMIZER, needs_reference=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_chunks, "_CHUNK_POSITIONS", 96)
        yield updater, state._replace(reference=reference)


@pytest.fixture(scope="module")
def whole(transformer, rows):
    """The gradient and metrics of all rows in one microbatch on one device."""
    batches = list(microbatches(rows, row_lens=[32], max_tokens=16 * 32))
    assert len(batches) == 1
    return mean_gradient(*transformer, batches)


def assert_same_metrics(got, want):
    assert got.keys() == want.keys()
    for name in got:
        np.testing.assert_allclose(
            float(got[name].value), float(want[name].value), rtol=2e-5, err_msg=name
        )


def in_microbatches_of_two(rows):
    return list(microbatches(rows, row_lens=[32], max_tokens=2 * 32))


def test_microbatches_differ_in_what_they_weigh(rows):
    """Otherwise a mean of means would pass the tests below."""
    weights = [int(batch.loss_mask.sum()) for batch in in_microbatches_of_two(rows)]
    assert len(weights) == 8
    assert max(weights) > 5 * min(weights)


def with_an_empty_microbatch(rows):
    batches = in_microbatches_of_two(rows)
    nothing = TrainBatch(*(np.zeros_like(array) for array in batches[0]))
    return [nothing, *batches, nothing]


CUTS = {
    "8 microbatches": in_microbatches_of_two,
    "8 microbatches, shortest last": lambda rows: in_microbatches_of_two(rows)[::-1],
    "microbatches of padding among them": with_an_empty_microbatch,
    "another order": lambda rows: microbatches(
        rows[::-1], row_lens=[32], max_tokens=16 * 32
    ),
    "longer padding, empty rows": lambda rows: microbatches(
        rows, row_lens=[40], max_tokens=20 * 40
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_how_rows_are_cut_and_padded_changes_nothing(transformer, rows, whole, cut):
    grads, metrics = mean_gradient(*transformer, CUTS[cut](rows))
    assert_same_gradient(grads, whole[0])
    assert_same_metrics(metrics, whole[1])


@pytest.fixture(scope="module")
def packed(transformer):
    """The same updater, for rows that hold several segments."""
    network = dataclasses.replace(TRANSFORMER, is_packed=True)
    return dataclasses.replace(transformer[0], forward=network.hidden), transformer[1]


def test_rows_packed_into_one_change_nothing(packed, rows, whole):
    """16 rows packed into 6 of 48 tokens; the last microbatch has two empty rows."""
    batches = list(microbatches(rows, row_lens=[48], max_tokens=4 * 48, is_packed=True))
    numbers = [batch.segments.max(axis=1).tolist() for batch in batches]
    assert sum(map(sum, numbers)) == 16 and max(map(max, numbers)) > 3
    grads, metrics = mean_gradient(*packed, batches)
    assert_same_gradient(grads, whole[0])
    assert_same_metrics(metrics, whole[1])


def test_how_rows_are_packed_compiles_nothing_more(packed, rows, compilations):
    updater, state = packed
    options = {"row_lens": [48], "max_tokens": 4 * 48, "is_packed": True}
    updater.gradient_sums(state, microbatches(rows, **options))
    compilations.clear()
    for some in (rows[:3], rows[4:], rows[::2]):
        updater.gradient_sums(state, microbatches(some, **options))
    assert not compilations


MESHES = [
    MeshShape(data=8),
    MeshShape(fsdp=8),
    MeshShape(data=2, fsdp=2, tensor=2),
]


@pytest.mark.slow
@pytest.mark.parametrize("shape", MESHES, ids=lambda s: f"{s.data}-{s.fsdp}-{s.tensor}")
def test_eight_devices_change_nothing(transformer, rows, whole, shape, compilations):
    """Gradient, metrics, and shardings after real updates."""
    one_device, state = transformer
    mesh = make_mesh(shape)
    places = shardings(mesh, TRANSFORMER.logical_axes, TRANSFORMER.shapes)
    updater = dataclasses.replace(
        one_device,
        forward=dataclasses.replace(
            TRANSFORMER, activation_sharding=activation_sharding(mesh)
        ).hidden,
        head_sharding=head_sharding(mesh, places["embedding"]),
    )
    # Copied through the host, because device_put from a device may share memory that an
    # update donates.
    params, reference = (
        jax.device_put(host(tree), places) for tree in (state.params, state.reference)
    )
    spread = begin_stage(params, OPTIMIZER, needs_reference=True)
    spread = spread._replace(reference=reference)
    batches = [
        put_batch(mesh, batch)
        for batch in microbatches(
            rows, row_lens=[32], max_tokens=8 * 32, row_multiple=row_multiple(mesh)
        )
    ]
    assert len(batches) == 2
    grads, metrics = mean_gradient(updater, spread, batches)
    assert_same_gradient(grads, whole[0])
    assert_same_metrics(metrics, whole[1])

    def assert_in_place(state):
        (adam,) = [
            x for x in state.opt_state[1] if isinstance(x, optax.ScaleByAdamState)
        ]
        for tree in (state.params, state.reference, adam.mu, adam.nu):
            assert jax.tree.map(lambda x: x.sharding, tree) == places

    assert_in_place(spread)
    spread, _ = updater.update(spread, batches)
    assert_in_place(spread)
    compilations.clear()
    spread, _ = updater.update(spread, batches)
    assert_in_place(spread)
    assert not compilations
    assert spread.num_updates == 2


def arrays_of_all_rows(updater, state, batch):
    """Shapes [16, 11 or 12, ...] in the program of one of eight devices."""
    sums = jax.tree.map(jnp.zeros_like, state.params)
    gradient = updater.gradient
    program = gradient.accumulate.lower(
        gradient, {}, state.params, state.reference, sums, batch
    )
    return set(re.findall(r"f32\[16,1[12],\d+\]", compile_to_read(program).as_text()))


@pytest.mark.slow
def test_no_device_holds_every_row_where_parameters_are_sharded():
    """Rows are sharded over the axis of the width: 2 rows per device, not 16."""
    mesh = make_mesh(MeshShape(fsdp=8))
    axes = {"embedding": ("vocab", "embed"), "head": ("vocab", "embed")}
    places = shardings(mesh, axes, jax.eval_shape(toy_params))
    params = jax.device_put(host(toy_params()), places)
    state = begin_stage(params, OPTIMIZER, needs_reference=False)
    batch = put_batch(mesh, toy_batch(shape=(16, 12)))
    objective = PolicyObjective(kl_weight=0.0)
    loose = toy_updater(objective)
    held = toy_updater(objective, head_sharding=head_sharding(mesh, places["head"]))
    assert arrays_of_all_rows(loose, state, batch)  # without the constraint
    assert not arrays_of_all_rows(held, state, batch)


# ---------------------------------------------------------------- the step


def test_a_step_is_that_of_a_loop_on_full_logits():
    """Two microbatches of 10 and 90 policy tokens against one loss on all logits."""
    few, many = toy_batch(1, (10, 12)), toy_batch(2, (10, 12))
    for batch, per_row in ((few, 1), (many, 9)):
        batch.loss_mask[:] = np.arange(12) < 1 + per_row
        batch.loss_mask[:, 0] = False
    rows = joined_rows(few, many)
    temperature = 0.7

    def logprobs(params):
        logits = params["embedding"][rows.tokens[:, :-1]] @ params["head"].T
        logps = jax.nn.log_softmax(logits / temperature, axis=-1)
        chosen = jnp.take_along_axis(logps, rows.tokens[:, 1:, None], axis=-1)[..., 0]
        return chosen, -jnp.sum(jnp.exp(logps) * logps, axis=-1)

    old = np.asarray(logprobs(toy_params())[0])  # on-policy up to a factor of 1.3
    rows.old_logprobs[:, 1:] = old + np.random.default_rng(3).uniform(
        -0.3, 0.3, old.shape
    )
    # Close enough that the KL of no token is clamped.
    reference = jax.tree.map(lambda x: 0.8 * x, toy_params())

    def mean_loss(params):
        chosen, entropy = logprobs(params)
        old, advantages = rows.old_logprobs[:, 1:], rows.advantages[:, 1:]
        ratio = jnp.exp(chosen - old)
        surrogate = jnp.minimum(
            ratio * advantages, jnp.clip(ratio, 0.8, 1.28) * advantages
        )
        log_ratio = logprobs(reference)[0] - chosen
        kl = jnp.exp(log_ratio) - log_ratio - 1
        losses = -surrogate + 0.05 * kl - 0.02 * entropy
        return jnp.mean(losses, where=rows.loss_mask[:, 1:])

    config = OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.05)
    params = toy_params()
    loss, grads = jax.jit(jax.value_and_grad(mean_loss))(params)
    norm = optax.tree.norm(grads)
    assert norm > 2 * config.max_grad_norm  # clipping is part of it
    adamw = optax.adamw(1e-2, b1=0.9, b2=0.999, weight_decay=0.01)
    grads = jax.tree.map(lambda g: g * config.max_grad_norm / norm, grads)
    moves, _ = adamw.update(grads, adamw.init(params), params)

    objective = PolicyObjective(clip_high=0.28, kl_weight=0.05, entropy_weight=0.02)
    optimizer = make_optimizer(config, 10)
    updater = toy_updater(objective, optimizer, temperature=temperature)
    state = begin_stage(toy_params(), optimizer, needs_reference=True)
    state = state._replace(reference=reference)
    halves = [TrainBatch(*(x[part] for x in rows)) for part in (np.s_[:10], np.s_[10:])]
    assert [int(half.loss_mask.sum()) for half in halves] == [10, 90]
    state, metrics = updater.update(state, halves)

    np.testing.assert_allclose(metrics["loss"].value, loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    for name, move in moves.items():
        # Adam's first step is nearly always the sign of the gradient, so rounding
        # matters only where the gradient is about 0.
        moved = np.asarray(state.params[name]) - np.asarray(params[name])
        error = np.linalg.norm(moved - move) / np.linalg.norm(move)
        assert error < 1e-3, (name, error)


@pytest.fixture(scope="module")
def toy():
    """An updater shared by the tests with one shape, so that it compiles once."""
    return toy_updater(PolicyObjective())


def toy_state():
    return begin_stage(toy_params(), OPTIMIZER, needs_reference=True)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(toy, poison):
    good, bad = toy_batch(1), toy_batch(2)
    row, column = np.argwhere(bad.loss_mask)[0]
    bad.advantages[row, column] = poison
    state, metrics = toy.update(toy_state(), [good])
    assert metrics["skipped"] == 0
    before = host((state.params, state.opt_state, state.reference))
    for skipped in (1, 2):
        state, metrics = toy.update(state, [good, bad])
        assert metrics["skipped"] == skipped
        assert not np.isfinite(metrics["grad_norm"])
        after = host((state.params, state.opt_state, state.reference))
        jax.tree.map(np.testing.assert_array_equal, after, before)
        assert state.num_updates == 1
    state, metrics = toy.update(state, [good])
    assert metrics["skipped"] == 0
    assert state.num_updates == 2
    # The skipped updates have no effect: the state equals that of two updates.
    twice = toy_state()
    for _ in range(2):
        twice, _ = toy.update(twice, [good])
    jax.tree.map(np.testing.assert_array_equal, host(state), host(twice))


def test_an_update_without_policy_tokens_is_counted_too(toy):
    batch = toy_batch()
    batch.loss_mask[:] = False
    state, metrics = toy.update(toy_state(), [batch])
    assert metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, host(state.params), host(toy_params()))


def test_no_microbatch_is_an_error(toy):
    with pytest.raises(ValueError, match="at least one microbatch, got none"):
        toy.update(toy_state(), [])


def test_many_updates_compile_once(compilations):
    """This holds for any number of microbatches, committed to a device or not."""
    updater = toy_updater(PolicyObjective())
    on_device = jax.device_put(toy_params(), jax.devices()[1])
    for params in (toy_params(), on_device):
        state = begin_stage(params, OPTIMIZER, needs_reference=True)
        state, _ = updater.update(state, [toy_batch(0), toy_batch(1)])
        compilations.clear()
        for num_microbatches in (1, 2, 3):
            batches = [toy_batch(seed) for seed in range(num_microbatches)]
            state, _ = updater.update(state, batches)
        assert not compilations


def test_metrics_outlive_the_state_they_came_with(toy):
    """The metrics of step n - 1 are read after step n is dispatched."""
    state, first = toy.update(toy_state(), [toy_batch()])
    state, _ = toy.update(state, [toy_batch()])
    assert first["skipped"] == 0
    assert np.isfinite(first["loss"].value)


def test_a_stage_takes_its_parameters_over_but_not_its_reference(toy):
    params = toy_params()
    state = begin_stage(params, OPTIMIZER, needs_reference=True)
    state, _ = toy.update(state, [toy_batch()])
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(params["head"])
    assert not np.array_equal(state.params["head"], state.reference["head"])
    np.testing.assert_array_equal(state.reference["head"], toy_params()["head"])


def test_updaters_do_not_share_programs(toy):
    """The same shapes with another objective give another gradient."""
    state, batch = toy_state(), toy_batch()
    imitation, _ = mean_gradient(toy_updater(ImitationObjective()), state, [batch])
    policy, _ = mean_gradient(toy, state, [batch])
    assert not np.allclose(imitation["head"], policy["head"])


def test_logprobs_are_those_of_the_sampling_temperature(toy):
    batch = toy_batch()
    logprobs = toy.logprobs_of(toy_params(), batch)
    assert (np.asarray(logprobs)[~batch.loss_mask] == 0.0).all()
    with pytest.raises(ValueError, match="temperature must be positive.*got 0"):
        toy_updater(PolicyObjective(), temperature=0.0)


def test_the_program_does_not_grow_with_depth():
    """Layers are scanned, also in the backward pass."""
    sizes = []
    for num_layers in (2, 6):
        architecture = dataclasses.replace(
            TRANSFORMER.architecture, num_layers=num_layers
        )
        network = Transformer(architecture=architecture)
        updater = Updater(
            forward=network.hidden,
            head=network.head,
            objective=PolicyObjective(kl_weight=0.0),
            optimizer=OPTIMIZER,
        )
        accumulate = updater.gradient.accumulate
        program = accumulate.lower(
            updater.gradient, {}, network.shapes, {}, network.shapes, toy_batch()
        )
        sizes.append(program.as_text().count("\n"))
    assert sizes[0] == sizes[1] > 500


def test_accumulation_mixes_no_dtypes_by_accident(toy):
    with jax.numpy_dtype_promotion("strict"):
        state = toy_state()
        jax.eval_shape(
            functools.partial(toy.gradient_sums, state, [toy_batch(shape=(3, 7))])
        )


# ---------------------------------------------------------------- learning


def bandit(reward_of, num_updates=40):
    """Probability of each first token after learning from rewards alone."""
    group, prompt = 16, 0
    optimizer = make_optimizer(
        OptimizerConfig(learning_rate=0.1, weight_decay=0.0), num_updates
    )
    updater = toy_updater(PolicyObjective(kl_weight=0.0), optimizer)
    state = begin_stage(toy_params(), optimizer, needs_reference=False)
    rng = np.random.default_rng(0)
    loss_mask = np.array([False, True])

    def probabilities(params):
        params = host(params)
        logits = (params["head"] @ params["embedding"][prompt]).astype(float)
        return np.exp(logits) / np.exp(logits).sum()

    before = probabilities(state.params)
    for _ in range(num_updates):
        shares = probabilities(state.params)
        sampled = rng.choice(VOCAB, size=group, p=shares)
        rewards = jnp.asarray([[reward_of(token) for token in sampled]], jnp.float32)
        rows = [
            TrainRow(
                tokens=np.array([prompt, token], np.int32),
                loss_mask=loss_mask,
                behavior_logprobs=np.log(shares[[token, token]]),
                sampling_logprobs=np.log(shares[[token, token]]),
                advantages=float(advantage),
            )
            for token, advantage in zip(
                sampled, group_relative(rewards)[0], strict=True
            )
        ]
        batches = microbatches(rows, row_lens=[2], max_tokens=2 * group)
        state, _ = updater.update(state, batches)
    return before, probabilities(state.params)


def test_what_is_rewarded_becomes_likely():
    before, after = bandit(lambda token: float(token % 8 == 3))
    is_rewarded = np.arange(VOCAB) % 8 == 3
    assert before[is_rewarded].sum() < 0.3
    assert after[is_rewarded].sum() > 0.9


def test_a_reward_for_everything_teaches_nothing():
    before, after = bandit(lambda token: 0.1, num_updates=5)
    np.testing.assert_array_equal(after, before)


def test_a_program_is_announced_at_its_first_call():
    found = []

    @contextlib.contextmanager
    def announce(title, num_programs):
        found.append((title, num_programs))
        yield lambda: None
        found.append("compiled")

    updater = toy_updater(PolicyObjective(kl_weight=0.0), announce=announce)
    state = begin_stage(toy_params(), OPTIMIZER, needs_reference=False)
    short, long = toy_batch(), toy_batch(shape=(2, 24))
    updater.logprobs_of(state.params, short)
    for batches in ([short, long, short], [long]):
        state, _ = updater.update(state, batches)
    assert found == [
        *(("the log-probs of rows of 12 tokens", 1), "compiled"),
        *(("the update for rows of 12 tokens", 1), "compiled"),
        *(("the update for rows of 24 tokens", 1), "compiled"),
        *(("the optimizer", 1), "compiled"),
    ]
