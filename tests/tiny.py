"""The smallest detector that is still one, and a batch for it: shared by the tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pse_jax import models
from pse_jax.config import Config, LossConfig, ModelConfig, OptimizerConfig

MODEL = ModelConfig(
    depth=10,
    width=8,
    norm="gn",
    norm_groups=2,
    frozen_stages=0,
    fpn_channels=16,
    head_convs=1,
    head_groups=4,
    dtype="float32",
    channel_order="rgb",
)
CLASSES = 3
SIDE = 64  # px

# For `jax.jit(..., compiler_options=FAST)`: where compiling costs more than running.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def make_config(**model):
    """The tiny model under the paper's loss; `model` changes fields of it."""
    return Config(
        model=dataclasses.replace(MODEL, **model),
        loss=LossConfig(),
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=0, milestones=()),
    )


def make_variables(model, seed=0):
    """Variables away from their start, so that every parameter matters; nothing is compiled."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))

    def fill(path, leaf):
        name, shape = path[-1].key, leaf.shape
        spread = 1.4 / np.sqrt(np.prod(shape[:-1])) if name == "kernel" else 0.1
        centre = 1.0 if name in ("scale", "scales") else 0.0
        return jnp.asarray(rng.normal(centre, spread, shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def make_batch(images=2, seed=0):
    """Random pixels with two boxes per image, in the form that the pipeline gives."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((images, 3, 4), np.float32)
    boxes[:, 0] = [3, 5, 41, 37]
    boxes[:, 1] = [20, 22, 62, 60]
    labels = np.zeros((images, 3), np.int32)
    labels[:, 1] = 2
    return {
        "image": rng.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8),
        "size_hw": np.full((images, 2), SIDE, np.int32),
        "image_valid": np.ones(images, bool),
        "boxes": boxes,
        "labels": labels,
        "box_valid": np.tile([True, True, False], (images, 1)),
        "unreadable": np.zeros(images, bool),
    }
