"""Ideas that did not pay, each against what is used instead, in one process, in turn.

    python benchmarks/rejected.py

So that the next person need not take our word for it, and can see whether another machine or
another version of XLA says something else. docs/performance.md has what it printed here.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import random_model
import workload
from layers import medians

from pse_jax import boxes, models
from pse_jax.losses.focal import sigmoid_focal_loss
from pse_jax.models import resnet
from pse_jax.postprocess import Candidates, PaddedDetections, non_maximum_suppression

SIDE = 640  # px, of the image that goes through the ResNet-50
NMS = {"iou_threshold": 0.6, "max_detections": 100}


def show(name: str, tried: float, used: float) -> None:
    """One row of the table."""
    print(f"{name:<58}{tried:>9.1f}{used:>9.1f}{used / tried:>8.2f}", flush=True)


def nms_with_early_exit(
    candidates: Candidates, iou_threshold: float, max_detections: int
) -> PaddedDetections:
    """As `non_maximum_suppression`, but ends where no candidate is left."""

    def go_on(state: tuple) -> jax.Array:
        round_, alive, _, _ = state
        return (round_ < max_detections) & (alive.max() >= 0)

    def take_best(state: tuple) -> tuple:
        round_, alive, index, scores = state
        best = jnp.argmax(alive)
        scores = scores.at[round_].set(alive[best])
        overlap = boxes.pairwise_iou(candidates.boxes_xyxy[best][None], candidates.boxes_xyxy)[0]
        gone = (overlap > iou_threshold) & (candidates.labels == candidates.labels[best])
        alive = jnp.where(gone, -1.0, alive).at[best].set(-1.0)
        return round_ + 1, alive, index.at[round_].set(best), scores

    alive = jnp.where(candidates.valid, candidates.scores, -1.0)
    none = jnp.zeros(max_detections, jnp.int32), jnp.full(max_detections, -1.0)
    _, _, index, scores = jax.lax.while_loop(go_on, take_best, (0, alive, *none))
    valid = scores >= 0
    return PaddedDetections(
        boxes_xyxy=jnp.where(valid[:, None], candidates.boxes_xyxy[index], 0.0),
        scores=jnp.where(valid, scores, 0.0),
        labels=jnp.where(valid, candidates.labels[index], 0),
        valid=valid,
    )


def nms() -> None:
    """Images with all candidates over the threshold, and with few."""
    rng = np.random.default_rng(0)

    def batched(function: Callable) -> Callable:
        return jax.jit(jax.vmap(functools.partial(function, **NMS)))

    tried, used = batched(nms_with_early_exit), batched(non_maximum_suppression)
    for images, count, few, many in ((1, 3350, 3350, 3350), (1, 3350, 10, 10), (16, 3350, 5, 60)):
        corner = rng.uniform(0, 700, (images, count, 2))
        corners = np.concatenate([corner, corner + rng.uniform(10, 200, corner.shape)], axis=-1)
        over = rng.integers(few, many + 1, (images, 1))
        candidates = Candidates(
            jnp.asarray(corners, jnp.float32),
            jnp.asarray(rng.uniform(0.05, 1, (images, count)), jnp.float32),
            jnp.asarray(rng.integers(0, 80, (images, count)), jnp.int32),
            jnp.asarray(np.arange(count) < over),
        )
        jax.tree.map(np.testing.assert_array_equal, tried(candidates), used(candidates))
        counts = f"{few}" if few == many else f"{few} to {many}"
        name = f"NMS with early exit, {images} image(s), {counts} of {count}"
        show(name, *medians(tried, used, candidates))


@jax.custom_vjp
def closed_focal(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """The focal loss, whose gradient is written out and computed from the logits alone."""
    return sigmoid_focal_loss(logits, targets)


def _saved(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, tuple]:
    return closed_focal(logits, targets), (logits, targets)


def _pull(saved: tuple, slope: jax.Array) -> tuple[jax.Array, None]:
    logits, targets = saved
    sign, weight = 2 * targets - 1, 0.25 * targets + 0.75 * (1 - targets)
    log_p = jax.nn.log_sigmoid(sign * logits)
    p = jnp.exp(log_p)
    return -slope * weight * sign * (1 - p) ** 2 * (1 - p - 2 * p * log_p), None


closed_focal.defvjp(_saved, _pull)


def focal() -> None:
    """Value and gradient by the logits."""
    rng = np.random.default_rng(0)

    def sloped(function: Callable) -> Any:
        return jax.jit(jax.value_and_grad(lambda x, t: function(x, t).sum()))

    tried, used = sloped(closed_focal), sloped(sigmoid_focal_loss)
    for shape in ((2, 2134, 80), (4, 22400, 80)):
        logits = jnp.asarray(rng.normal(-3, 2, shape), jnp.float32)
        targets = jnp.asarray(rng.uniform(size=shape) < 0.01, jnp.float32)
        np.testing.assert_allclose(tried(logits, targets)[1], used(logits, targets)[1], atol=1e-6)
        name = "focal loss in closed form, " + "x".join(map(str, shape))
        show(name, *medians(tried, used, logits, targets))
        for which, function in (("tried", tried), ("used", used)):
            needed = function.lower(logits, targets).compile().memory_analysis()
            print(f"    {which}: {needed.temp_size_in_bytes / 1e6:.0f} MB of intermediate values")


class BiasAlone(nn.Module):
    """What is left of a FrozenBatchNorm whose scale is folded into the convolution before it."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Adds it; the scale is there only so that the values fit."""
        self.variable("frozen", "scale", jnp.ones, x.shape[-1:])
        return x + self.variable("frozen", "bias", jnp.zeros, x.shape[-1:]).value


def folded_norms() -> None:
    """The network alone. All scales are 1 in it, so that nothing needs to be folded."""
    options = argparse.Namespace(dtype="float32", strides="msra", size=(SIDE, SIDE))
    config = random_model.configuration(options)
    values = random_model.variables(config)
    pixels = jnp.asarray(workload.images((SIDE, SIDE), 1))

    def network() -> Any:
        model = models.FCOS(config.model, workload.CLASSES, jnp.float32)

        def run(values: models.Variables, pixels: jax.Array) -> Any:
            size_hw = jnp.array([(SIDE, SIDE)])
            return model.apply(values, models.preprocess(pixels, size_hw, config.model))

        return jax.jit(run).lower(values, pixels).compile()

    used = network()
    with mock.patch.object(resnet, "FrozenBatchNorm", BiasAlone):
        tried = network()
    name = f"frozen norms folded, ResNet-50, {SIDE}x{SIDE}"
    show(name, *medians(tried, used, values, pixels))


def main() -> None:
    """Prints the table."""
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, median ms")
    print(f"{'':<58}{'tried':>9}{'used':>9}{'ratio':>8}")
    nms()
    focal()
    folded_norms()


if __name__ == "__main__":
    main()
