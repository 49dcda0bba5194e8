"""The average of the parameters: what it is, what uses it, and that a run may begin or end it."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny
from test_accumulation import Pooled

from pse_jax import distributed, models
from pse_jax.categories import Categories
from pse_jax.detector import Detector
from pse_jax.errors import ConfigError
from pse_jax.runs import checksums
from pse_jax.runs.checkpoint import Checkpoints
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load, load_run
from pse_jax.training import optimizer, resume
from pse_jax.training.loop import train
from pse_jax.training.step import create_state, make_train_step
from tests import tiny_run

CATEGORIES = Categories((1, 2, 3), ("a", "b", "c"))
DECAY = 0.7


def leaves(tree):
    return {jax.tree_util.keystr(k): np.array(v) for k, v in jax.tree.leaves_with_path(tree)}


def assert_same(a, b):
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys() and a
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def start_state(config, model, mesh):
    sgd = optimizer.create(config.optimizer, config.model)
    shapes = jax.eval_shape(lambda: create_state(model, sgd, jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = dataclasses.replace(zeros, params=tiny.make_variables(model)["params"])
    return sgd, distributed.to_every_device(state, mesh)


def test_the_average_is_what_a_loop_says_and_a_bad_step_leaves_it_alone(one_device_mesh):
    config = tiny.make_config()
    config.optimizer.ema_decay = DECAY
    model = Pooled(config.model, tiny.CLASSES)
    sgd, state = start_state(config, model, one_device_mesh)
    step = make_train_step(model, sgd, config, one_device_mesh)
    batch = tiny.make_batch()
    state = state.averaging(True)
    wanted = {name: value.astype(np.float64) for name, value in leaves(state.params).items()}
    decays = []
    for t in range(16):
        good = jax.device_get(state.params)
        if bad := t == 3:
            nan = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), good)
            nan = distributed.to_every_device(nan, one_device_mesh)
            state = dataclasses.replace(state, params=nan)
        state, metrics = step(state, distributed.to_devices(batch, one_device_mesh))
        assert metrics["finite"] == (not bad)
        decays.append(min(DECAY, (1 + t) / (10 + t)))
        if bad:
            good = distributed.to_every_device(good, one_device_mesh)
            state = dataclasses.replace(state, params=good)
        for name, value in leaves(state.params).items():
            if not bad:
                wanted[name] = decays[-1] * wanted[name] + (1 - decays[-1]) * value
        for name, value in leaves(state.average).items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-5, atol=1e-7)
    assert decays[0] == 0.1 and decays[-1] == 16 / 25  # the warm-up
    assert_same(state.variables["params"], state.average)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, state.average)
    assert max(jax.tree.leaves(apart)) > 1e-4


@pytest.fixture
def saved(tmp_path, one_device_mesh):
    """A function that saves a state with random values in a run's folder, and gives them."""

    def save(config):
        run, model = Run(tmp_path / "run"), models.create(config.model, len(CATEGORIES))
        _, state = start_state(config, model, one_device_mesh)
        state = state.averaging(config.optimizer.ema_decay > 0)
        values = iter(np.random.default_rng(0).random(10_000, np.float32))
        state = jax.tree.map(lambda leaf: np.full_like(leaf, next(values) * 9), state)
        state = dataclasses.replace(state, step=np.int32(4))
        run.make()
        run.claim(config)
        checkpoints = Checkpoints(run, 2)
        detector = Detector(config, CATEGORIES, state.variables, 4)
        placed = distributed.to_every_device((detector.variables, state.training), one_device_mesh)
        checkpoints.save(dataclasses.replace(detector, variables=placed[0]), placed[1])
        checkpoints.close()
        return run, state

    return save


def resumed(config, run, mesh):
    model = models.create(config.model, len(CATEGORIES))
    found = resume.saved_state(config, run, None, model, CATEGORIES, mesh)
    assert found is not None
    return found[0]


def config_of(decay):
    config = tiny.make_config()
    config.optimizer.ema_decay = decay
    return config


def test_a_checkpoint_keeps_both_and_a_detector_is_the_average(saved, one_device_mesh):
    run, state = saved(config_of(0.9))
    assert_same(resumed(config_of(0.9), run, one_device_mesh), state)
    assert_same(resumed(config_of(0.99), run, one_device_mesh), state)
    assert_same(load(run.folder, "latest").variables["params"], state.average)
    assert not np.array_equal(*(leaves(tree)["['head']['scales']"] for tree in
                                (state.params, state.average)))  # fmt: skip


def test_an_average_that_ends_leaves_the_parameters_themselves(saved, one_device_mesh):
    run, state = saved(config_of(0.9))
    found = resumed(config_of(0.0), run, one_device_mesh)
    assert found.average is None
    assert_same(found, dataclasses.replace(state, average=None))


def test_an_average_that_begins_in_mid_run_begins_with_the_parameters(saved, one_device_mesh):
    run, state = saved(config_of(0.0))
    meta = run.checkpoints / "4" / "meta" / "metadata"  # as it was before there were averages
    content = json.loads(meta.read_text())
    del content["config"]["optimizer"]["ema_decay"], content["crc32"]
    content["crc32"] = checksums.of_json(content)
    meta.write_text(json.dumps(content))
    found = resumed(config_of(0.9), run, one_device_mesh)
    assert_same(found.average, state.params)
    assert_same(dataclasses.replace(found, average=None), state)
    pairs = zip(*map(jax.tree.leaves, (found.params, found.average)), strict=True)
    # A step donates each buffer once.
    assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)


def test_changing_the_average_in_mid_run_has_to_be_named(saved):
    run, _ = saved(config_of(0.0))
    with pytest.raises(ConfigError, match=r"--allow-change=optimizer\.ema_decay"):
        run.claim(config_of(0.9))
    run.claim(config_of(0.9), ["optimizer.ema_decay"])


@pytest.mark.slow
def test_resuming_with_an_average_is_bit_identical(tmp_path):
    """... and the same run without one has the same parameters, and other numbers."""

    def run(name, steps, decay=0.5):
        config = tiny_run.config(tmp_path / "cache")
        config.optimizer.ema_decay, config.optimizer.steps = decay, steps
        train(config, tmp_path / name)
        return leaves(load(tmp_path / name, str(steps)).variables)

    whole = run("whole", 6)
    run("halves", 4)
    assert_same(whole, run("halves", 6))
    plain = run("plain", 6, 0.0)
    assert any((whole[name] != plain[name]).any() for name in plain)
    mesh = distributed.make_mesh()
    config = tiny_run.config(tmp_path / "cache")
    states = []
    for name, decay in (("whole", 0.5), ("halves", 0.5), ("plain", 0.0)):
        config.optimizer.ema_decay, found = decay, Run(tmp_path / name)
        categories = load_run(found, "latest").categories
        model = models.create(config.model, len(categories))
        states.append(resume.saved_state(config, found, None, model, categories, mesh))
    assert_same(states[0][0], states[1][0])
    assert_same(states[0][0].params, states[2][0].params)
