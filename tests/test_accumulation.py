"""A batch in parts is the batch: one divisor, the same losses and the same update, to rounding.

The slower ones: pytest -n 0 -m slow tests/test_accumulation.py.
"""

import copy
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType

from pse_jax import distributed, models
from pse_jax.config import LossConfig
from pse_jax.config_checks import validate
from pse_jax.errors import ConfigError, UserError
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS
from pse_jax.models.head import to_distances
from pse_jax.points import STRIDES
from pse_jax.training import optimizer
from pse_jax.training.step import create_state, make_train_step

IMAGES, PARTS = 16, 4
CASES = {
    "the paper's": (LossConfig(), {}),
    "FCOS with centre-ness": (
        LossConfig(association="none", box="giou", box_by_centerness=True),
        {"quality": "centerness", "distances": "relu"},
    ),
    "TAL and IoU": (LossConfig(classification="tal", association="none"), {"quality": "iou"}),
    "VFL": (LossConfig(classification="vfl", association="none"), {}),
    "PSE logit shifted": (LossConfig(association="pse_logit_shifted", score="target"), {}),
}
QUICK = ("the paper's",)


def config_of(case):
    loss, model = CASES[case]
    config = tiny.make_config(**model)
    config.loss = loss
    return config


class Pooled(models.FCOS):
    """In place of the network: a linear function of mean colours, which compiles at once."""

    @nn.compact
    def __call__(self, images):
        out = {"class": [], "box": [], "quality": []}
        size = {"class": self.num_classes, "box": 4, "quality": 1}
        outputs = {name: nn.Dense(size[name], name=name) for name in out}
        for stride in STRIDES:
            cells = nn.avg_pool(images / 32, (stride, stride), (stride, stride), "SAME")
            for name, layer in outputs.items():
                out[name].append(layer(cells).reshape(len(images), -1, size[name]))
            out["box"][-1] = to_distances(out["box"][-1] + 2, stride, self.config.distances)
        logits, distances, quality = (jnp.concatenate(parts, 1) for parts in out.values())
        asked = self.config.quality != "none"
        return models.Predictions(logits, distances, quality[..., 0] if asked else None)


def mesh_of(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def uneven_batch(part_of):
    """Sixteen images; of their parts one has many objects, one is unreadable, one has no object.

    Args:
        part_of: the part of each image.
    """
    batch = tiny.make_batch(IMAGES)
    batch["box_valid"][part_of == 1] = False
    batch["image_valid"] = part_of != 2
    batch["unreadable"] = part_of == 2
    batch["box_valid"][np.flatnonzero(part_of == 3)[1:]] = False
    batch["image_valid"][np.flatnonzero(part_of == 3)[3]] = False  # its pixels are what they are
    return batch


def take_step(config, devices, part_of, parts, network=Pooled):
    """The state before and after a step, its metrics, and the program."""
    config = copy.deepcopy(config)
    config.train.accumulate = parts
    mesh = mesh_of(devices)
    model = network(config.model, tiny.CLASSES)
    sgd = optimizer.create(config.optimizer, config.model)
    shapes = jax.eval_shape(lambda: create_state(model, sgd, jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = dataclasses.replace(zeros, params=tiny.make_variables(model)["params"])
    before = jax.device_get(state)
    state = distributed.to_every_device(before, mesh)
    batch = distributed.to_devices(uneven_batch(part_of), mesh)
    step = make_train_step(model, sgd, config, mesh)
    program = step.lower(state, batch).compile(tiny.FAST)  # pyright: ignore
    after, metrics = jax.device_get(program(state, batch))
    return before, after, metrics, program


def assert_same_step(whole, parts):
    before, after, metrics, _ = whole
    _, after_parts, metrics_parts, _ = parts
    assert metrics["positives"] > 10 and metrics["unreadable"] == IMAGES // PARTS
    for name in metrics:
        np.testing.assert_allclose(metrics_parts[name], metrics[name], rtol=2e-6, err_msg=name)

    velocities = [dict(jax.tree.leaves_with_path(s.opt_state)) for s in (after, after_parts)]
    for path, whole in velocities[0].items():  # the first ones: gradients and decay
        scale = np.abs(whole).max()
        np.testing.assert_allclose(velocities[1][path], whole, atol=1e-5 * scale, err_msg=path)

    def close(path, old, new, in_parts):
        ulp, update = np.spacing(np.abs(old).max()), np.abs(new - old).max()
        assert update > 20 * ulp or "quality" in str(path)
        atol = max(2 * ulp, 1e-5 * update)  # parameters are rounded too
        np.testing.assert_allclose(in_parts, new, rtol=0, atol=atol, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, before.params, after.params, after_parts.params)


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_four_parts_of_four_are_a_batch_of_sixteen(case):
    config = config_of(case)
    part_of = np.arange(IMAGES) // (IMAGES // PARTS)
    assert_same_step(take_step(config, 1, part_of, 1), take_step(config, 1, part_of, PARTS))


@pytest.mark.parametrize("network", [Pooled, pytest.param(models.FCOS, marks=pytest.mark.slow)])
def test_every_device_splits_its_own_images(network):
    """Of four devices each has one image of every part: no image moves to another device."""
    config, part_of = config_of("FCOS with centre-ness"), np.arange(IMAGES) % PARTS
    whole = take_step(config, 1, part_of, 1, network)
    parts = take_step(config, 4, part_of, PARTS, network)
    assert_same_step(whole, parts)
    text = parts[-1].as_text()
    assert "all-reduce" in text
    assert not any(f"all-{kind}" in text for kind in ("gather", "to-all"))
    assert "collective-permute" not in text


def test_a_loss_that_is_no_sum_over_images_is_refused_and_named():
    rows = {"association": ASSOCIATIONS, "classification": CLASSIFICATIONS}
    refused = set()
    for section, table in rows.items():
        for name in table:
            config = tiny.make_config()
            config.loss = LossConfig(**{"association": "none", section: name})
            validate(config)
            config.train.accumulate = 4
            try:
                validate(config)
            except ConfigError as error:
                assert f"config.loss.{section}={name!r}: it is computed from all pos" in str(error)
                refused.add(name)
    assert refused == {"pearson", "spearman", "concordance", "iou_balanced"}


def test_parts_must_divide_the_batch_and_the_devices():
    config = tiny.make_config()
    config.data.batch_size, config.train.accumulate = 16, 3
    with pytest.raises(ConfigError, match=r"accumulate is 3; it must be a divisor of data.*16"):
        validate(config)
    assert distributed.local_rows(16, 2) == slice(0, 16)
    with pytest.raises(UserError, match=r"16 images in 4 parts does not divide among 8 devices"):
        distributed.local_rows(16, 4)
