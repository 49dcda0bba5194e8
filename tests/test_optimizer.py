"""The schedule, the parameter groups, and SGD as PyTorch does it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pse_jax.config import Config, ModelConfig, OptimizerConfig
from pse_jax.training import optimizer

MODEL = ModelConfig()
SHORT = OptimizerConfig(learning_rate=0.1, warmup_steps=10, milestones=(20, 35), weight_decay=0.05)
SHAPES = {
    "backbone/stem/conv1/kernel": (3, 2),
    "backbone/layer1/block0/conv1/kernel": (2, 2),
    "backbone/layer2/block0/conv1/kernel": (4, 3),
    "fpn/lateral3/kernel": (3, 3),
    "fpn/lateral3/bias": (3,),
    "head/class_tower/norm0/scale": (4,),
    "head/class_tower/norm0/bias": (4,),
    "head/scales": (5,),
}
NAMES = ("frozen", "frozen", "weight", "weight", "bias", "weight", "bias", "weight")
GROUPS = dict(zip(SHAPES, NAMES, strict=True))


def nest(flat):
    """{"a/b": 1} -> {"a": {"b": 1}}"""
    tree = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def flatten(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def test_the_papers_schedule():
    iterations = np.array([1, 499, 500, 59_999, 60_000, 79_999, 80_000, 90_000])
    expected = [0.01 / 3, 0.01 / 3, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    np.testing.assert_allclose(optimizer.learning_rate(iterations, OptimizerConfig()), expected)
    on_device = optimizer.learning_rate(jnp.asarray(iterations), OptimizerConfig(), jnp)
    np.testing.assert_allclose(on_device, expected, rtol=1e-6)
    assert float(optimizer.learning_rate(500, OptimizerConfig())) == 0.01


def test_linear_warm_up():
    config = OptimizerConfig(warmup="linear", warmup_factor=0.1, warmup_steps=100)
    rates = optimizer.learning_rate(np.array([0, 1, 50, 99, 100, 101]), config)
    np.testing.assert_allclose(rates, [0.001, 0.00109, 0.0055, 0.00991, 0.01, 0.01])


def test_no_warm_up_and_no_milestones():
    config = OptimizerConfig(warmup_steps=0, milestones=())
    np.testing.assert_array_equal(optimizer.learning_rate(np.array([1, 10**6]), config), 0.01)


def test_groups_go_by_name():
    found = flatten(optimizer.labels(nest({p: np.zeros(s) for p, s in SHAPES.items()}), MODEL))
    assert found == GROUPS
    path = ("backbone", "stem", "conv1", "kernel")
    assert optimizer.group_of(path, ModelConfig(frozen_stages=0)) == "weight"


def run(config, steps=50, scale=1.0):
    """Initial values, the gradients of every step, and the parameters after it."""
    rng = np.random.default_rng(0)
    draw = lambda: {  # noqa: E731
        path: rng.normal(0, scale, shape).astype(np.float32) for path, shape in SHAPES.items()
    }
    start, gradients = draw(), [draw() for _ in range(steps)]
    tx = optimizer.create(config, MODEL)

    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = nest(start)
    state, trail = tx.init(params), []
    for gradient in gradients:
        params, state = step(params, state, nest(gradient))
        trail.append({path: np.asarray(leaf) for path, leaf in flatten(params).items()})
    return start, gradients, trail


def rate_and_decay(path, iteration, config):
    passed = sum(iteration >= m for m in config.milestones)
    rate = config.learning_rate * 0.1**passed * (1 / 3 if iteration < config.warmup_steps else 1)
    of_group = {
        "bias": (2 * rate, 0.0),
        "weight": (rate, config.weight_decay),
        "frozen": (0.0, 0.0),
    }
    return of_group[GROUPS[path]]


def test_fifty_steps_against_numpy():
    start, gradients, trail = run(SHORT)
    for path in SHAPES:
        p, v = start[path].astype(np.float64), 0.0
        for iteration, (gradient, after) in enumerate(zip(gradients, trail, strict=True), start=1):
            rate, decay = rate_and_decay(path, iteration, SHORT)
            v = 0.9 * v + gradient[path] + decay * p  # the rate is no part of the velocity
            p = p - rate * v
            np.testing.assert_allclose(after[path], p, rtol=1e-4, atol=2e-5, err_msg=path)
        if GROUPS[path] == "frozen":
            np.testing.assert_array_equal(trail[-1][path], start[path])


def test_fifty_steps_against_torch():
    torch = pytest.importorskip("torch")
    start, gradients, trail = run(SHORT)
    tensors = {path: torch.tensor(value.tolist()) for path, value in start.items()}
    trained = [path for path in SHAPES if GROUPS[path] != "frozen"]
    groups = [
        {"params": [tensors[p]], "weight_decay": rate_and_decay(p, 1, SHORT)[1]} for p in trained
    ]
    sgd = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    for iteration, (gradient, after) in enumerate(zip(gradients, trail, strict=True), start=1):
        for path, group in zip(trained, sgd.param_groups, strict=True):
            group["lr"] = rate_and_decay(path, iteration, SHORT)[0]
            tensors[path].grad = torch.tensor(gradient[path].tolist())
        sgd.step()
        for path in trained:
            np.testing.assert_allclose(after[path], tensors[path].tolist(), rtol=1e-4, atol=2e-5)


def test_clipping_by_the_global_norm():
    plain = OptimizerConfig(learning_rate=0.1, momentum=0.0, weight_decay=0.0, warmup_steps=0)
    start, gradients, unclipped = run(plain, steps=1)
    clipped = run(dataclasses.replace(plain, clip_norm=2.0), steps=1)[2]
    norm = float(np.sqrt(sum((g**2).sum() for g in gradients[0].values())))
    assert norm > 2.0
    for path in SHAPES:
        moved = unclipped[0][path] - start[path]
        np.testing.assert_allclose(clipped[0][path] - start[path], moved * 2.0 / norm, atol=1e-6)
    loose = run(dataclasses.replace(plain, clip_norm=norm * 1.01), steps=1)[2]
    for path in SHAPES:
        np.testing.assert_allclose(loose[0][path], unclipped[0][path], rtol=1e-6)


@pytest.mark.parametrize(
    "batch, rule, rate, words",
    [
        (16, "none", 0.01, "0.01"),
        (16, "linear", 0.01, "0.01"),
        (
            8,
            "none",
            0.01,
            "0.01; a batch of 8 is 0.5 of the 16 that it is meant for "
            "(config.optimizer.base_batch), and the linear rule would give 0.005: "
            "--config.optimizer.batch_rule=linear",
        ),
        (64, "linear", 0.04, "0.04 by the linear rule: a batch of 64 is 4 of the 16 that 0.01 "
         "is meant for"),
    ],
)  # fmt: skip
def test_the_rate_of_another_batch_is_said_and_switchable(batch, rule, rate, words):
    config = Config()
    config.data.batch_size, config.optimizer.batch_rule = batch, rule
    assert optimizer.describe_rate(config) == words
    scaled = optimizer.for_batch(config)
    assert scaled.learning_rate == pytest.approx(rate)
    assert dataclasses.replace(scaled, learning_rate=0.01) == config.optimizer
    np.testing.assert_allclose(optimizer.learning_rate(70_000, scaled), rate / 10)
