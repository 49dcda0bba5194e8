"""Our detector with random weights: what the benchmarks run, as no speed depends on the weights."""

import argparse
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import workload

from pse_jax import models
from pse_jax.config import Config
from pse_jax.configs import coco_pse
from pse_jax.training.step import TrainState

SEEN_HW = (256, 416)  # px, the most of an image that the class logits are looked at for


def configuration(options: argparse.Namespace) -> Config:
    """coco_pse: the paper's, with strides where MSRA has them unless `--strides torchvision`."""
    config = coco_pse.get_config()
    config.model.dtype = options.dtype
    config.model.remat = getattr(options, "remat", False)
    config.model.stride_in_1x1 = options.strides == "msra"
    config.optimizer.learning_rate = workload.LEARNING_RATE
    return config


def variables(config: Config) -> models.Variables:
    """On the host; as wide as `models.init` makes them, which would have to be compiled."""
    model = models.create(config.model, workload.CLASSES)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        names = [key.key for key in path]
        if names[-1] == "kernel":
            deviation = 0.01 if "head" in names else 1 / math.sqrt(np.prod(leaf.shape[:-1]))
            return rng.normal(0, deviation, leaf.shape).astype(np.float32)
        value = 1.0 if names[-1].startswith("scale") else 0.0
        if names[-2:] == ["class_conv", "bias"]:
            value = -math.log((1 - config.model.prior) / config.model.prior)
        return np.full(leaf.shape, value, np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def state(config: Config, sgd: optax.GradientTransformation) -> TrainState:
    """That before the first step, on the host."""
    values = variables(config)
    shapes = jax.eval_shape(sgd.init, values["params"])
    return TrainState(
        step=np.int32(0),
        params=values["params"],
        frozen=values["frozen"],
        opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes),
        bad_steps=np.int32(0),
        skipped=np.int32(0),
    )


def livelier(
    values: models.Variables, config: Config, options: argparse.Namespace
) -> models.Variables:
    """With a bias that lets `--candidates` scores pass, and boxes four strides wide and high."""
    head = values["params"]["head"]
    head["box_conv"]["bias"][:] = math.log(16)  # exponents are scaled: 2 strides to each edge
    head["scales"][:] = np.log(2 * np.array(workload.STRIDES)) / math.log(16)
    hw = (min(options.size[0], SEEN_HW[0]), min(options.size[1], SEEN_HW[1]))
    share = hw[0] * hw[1] / (options.size[0] * options.size[1])
    model = models.FCOS(config.model, workload.CLASSES, jnp.float32)
    pixels = workload.images(hw, 1)

    @jax.jit
    def logits(values: models.Variables) -> jax.Array:
        images = models.preprocess(jnp.asarray(pixels), jnp.array([hw]), config.model)
        predictions: Any = model.apply(values, images)
        return predictions.class_logits[0]

    cpu = _cpu()  # a GPU's compiler would try algorithms for a minute, for one call
    with jax.default_device(cpu):
        seen = np.asarray(logits(jax.device_put(values, cpu)))
    count = max(1, round(options.candidates * share))
    more = workload.shift(seen, None, config.inference.score_threshold, count)
    head["class_conv"]["bias"] += more
    return values


def _cpu() -> jax.Device:
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return jax.devices()[0]
