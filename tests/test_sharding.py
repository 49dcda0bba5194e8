"""One device or eight: the same numbers, and no batch gathered onto every device."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from pse_jax import distributed, models
from pse_jax.config import (
    Config,
    InferenceConfig,
    LossConfig,
    OptimizerConfig,
    TargetConfig,
    to_dict,
)
from pse_jax.detector import compiled
from pse_jax.training import optimizer
from pse_jax.training.step import create_state, make_train_step
from tests import tiny_run as tiny

SHAPE = (64, 96)
CONFIG = Config(
    model=tiny.MODEL,
    targets=TargetConfig(size_bounds=(16, 32, 64, 128)),
    loss=LossConfig(association="pse"),
    optimizer=OptimizerConfig(learning_rate=0.05, warmup_steps=0),
    inference=InferenceConfig(top_k=50, max_detections=10),
)


def mesh_of(devices: int):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def random_batch(seed: int = 0, size: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (size, 8, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 50, (size, 8, 2))], -1)
    valid = np.arange(8) < rng.integers(0, 5, (size, 1))  # some images have no objects
    return {
        "image": rng.integers(0, 256, (size, *SHAPE, 3), np.uint8),
        "size_hw": np.tile(np.array([[60, 90]], np.int32), (size, 1)),
        "original_hw": np.tile(np.array([[120, 180]], np.int32), (size, 1)),
        "boxes": boxes.astype(np.float32),
        "labels": rng.integers(0, 6, (size, 8), np.int32),
        "box_valid": valid,
        "image_valid": np.arange(size) != size - 1,
        "unreadable": np.zeros(size, bool),
    }


@pytest.fixture(scope="module")
def start():
    """A state to start from, on the host: made once, as that takes a compilation."""
    model = models.create(CONFIG.model, 6)
    sgd = optimizer.create(CONFIG.optimizer, CONFIG.model)
    create = jax.jit(lambda key: create_state(model, sgd, key))
    return jax.device_get(create(jax.random.key(0, impl="rbg")))


def on_mesh(start, mesh):
    """A copy of the state, which the step takes over, whole on every device."""
    return jax.device_put(jax.tree.map(jnp.array, start), distributed.replicated(mesh))


@pytest.fixture(scope="module")
def runs(start):
    """Two steps on one device and on eight, with the compiled programs."""
    results = {}
    for devices in (1, 8):
        mesh = mesh_of(devices)
        model = models.create(CONFIG.model, 6)
        sgd = optimizer.create(CONFIG.optimizer, CONFIG.model)
        state = on_mesh(start, mesh)
        step = make_train_step(model, sgd, CONFIG, mesh)
        batch = distributed.to_devices(random_batch(), mesh)
        program = step.lower(state, batch).compile()  # pyright: ignore
        metrics = []
        for _ in range(2):
            state, scalars = program(state, batch)
            metrics.append(jax.device_get(scalars))
        detect = compiled(json.dumps(to_dict(CONFIG)), 6, mesh)
        detection = detect.lower(state.variables, batch).compile()  # pyright: ignore
        found = jax.device_get(detection(state.variables, batch))
        texts = program.as_text(), detection.as_text()
        results[devices] = jax.device_get(state), metrics, *texts, found
    return results


def test_losses_do_not_depend_on_the_number_of_devices(runs):
    for one, eight in zip(runs[1][1], runs[8][1], strict=True):
        for name in one:
            np.testing.assert_allclose(eight[name], one[name], rtol=2e-5, err_msg=name)
    assert runs[1][1][0]["positives"] > 10 and runs[1][1][0]["assoc"] > 0


def test_updated_parameters_do_not_depend_on_the_number_of_devices(runs):
    def close(path, one, eight):
        scale = np.abs(one).max()
        np.testing.assert_allclose(eight, one, atol=2e-5 * max(scale, 1e-2), err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, runs[1][0].params, runs[8][0].params)


def test_detections_do_not_depend_on_the_number_of_devices(runs):
    one, eight = runs[1][4], runs[8][4]
    np.testing.assert_allclose(eight.scores, one.scores, atol=1e-5)
    assert not eight.valid[-1].any()  # the image that is not valid


def test_nothing_gathers_the_batch(runs):
    assert "all-gather" not in runs[8][2] and "all-gather" not in runs[8][3]
    assert "all-reduce" in runs[8][2]  # the gradients: the text is that of eight devices


def test_own_rows_are_those_that_were_given():
    """In their order; in one process, that is all of them."""
    batch = random_batch(size=16)
    own = distributed.own_rows(distributed.to_devices(batch, mesh_of(8)))
    for name, values in batch.items():
        np.testing.assert_array_equal(own[name], values)


def test_one_compilation_a_shape(start):
    mesh = mesh_of(8)
    model = models.create(CONFIG.model, 6)
    sgd = optimizer.create(CONFIG.optimizer, CONFIG.model)
    step = make_train_step(model, sgd, CONFIG, mesh)
    state = on_mesh(start, mesh)
    for seed in range(3):
        state, _ = step(state, distributed.to_devices(random_batch(seed), mesh))
    assert step._cache_size() == 1  # pyright: ignore
