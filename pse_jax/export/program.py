"""The function that is exported: pixels of any size in, boxes in those pixels out.

`transforms.resized_hw` and `resize` are computed inside, to the bit, and the network is
`detector.detect` on the canvases that `Detector` takes.

Dimensions: b images, h and w px of the array that they come in, d detections, s px of a square that
holds every canvas.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from pse_jax import models
from pse_jax.config import Config, DataConfig
from pse_jax.data import transforms
from pse_jax.data.padding import Canvases, canvas_hw, canvas_sides, order
from pse_jax.detector import Batch, detect
from pse_jax.export.resize import LARGEST, resize, resized_hw
from pse_jax.postprocess import PaddedDetections

MOST_ELONGATED = 16  # an image is at most so many times as long as wide, to be sure of a canvas
SAMPLED = 4096  # px: which canvases there are is found with images of so many px by a part of that


def settled(config: Config) -> Config:
    """The configuration with the compute type that is exported: "auto" is float32."""
    dtype = "float32" if config.model.dtype == "auto" else config.model.dtype
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))


@functools.lru_cache(maxsize=8)
def canvases(short_side: int, long_side: int, rule: str, trained: Canvases = ()) -> Canvases:
    """The canvases of `Detector` that images may land on, those of `MOST_ELONGATED` included.

    Args:
        short_side: of the configuration, px.
        long_side: of the configuration, px.
        rule: by which images are resized.
        trained: the detector's own.
    """
    longest, found = max(short_side, long_side), set()
    oblong = [(short, SAMPLED) for short in range(SAMPLED // MOST_ELONGATED, SAMPLED + 1)]
    square = [(side, side) for side in range(1, SAMPLED)]  # some of 799 px, instead of 800
    for height, width in oblong + square:
        for hw in ((height, width), (width, height)):
            resized = transforms.resized_hw(*hw, short_side, long_side, rule)
            found.add(canvas_hw(resized, longest, trained))
    return tuple(sorted(found))


def run(
    config: Config,
    category_ids: Sequence[int],
    trained: Canvases,
    variables: models.Variables,
    images: UInt8[Array, "b h w 3"],
    sizes_hw: Int[Array, "b 2"],
) -> dict[str, Array]:
    """Detections of a batch; a pure function of its arguments, any of whose sizes may be symbolic.

    The batch passes the network once for each canvas that its images need: once if they all have
    one size.

    Args:
        config: of the detector, `settled`.
        category_ids: of its labels.
        trained: its canvases of training.
        variables: of the model.
        images: RGB, each in the top left corner; what lies beyond its size is not looked at.
        sizes_hw: height and width of each.

    Returns:
        boxes_xyxy [b, d, 4] in px of the image, scores [b, d], category_ids [b, d], count [b]; as
        `artefact.outputs` describes them.
    """
    data = config.data
    choices = canvases(data.short_side, data.long_side, data.resize, trained)
    resized, to_hw, usable = _resized(data, max(map(max, choices)), images, sizes_hw)
    sides = canvas_sides(max(data.short_side, data.long_side))
    # XLA folds this where the sizes are constants, and so drops the canvases that are not needed.
    table = np.searchsorted(sides, np.arange(resized.shape[1] + 1))
    canvas = jnp.array(np.array(sides)[table])[to_hw]
    for one in sorted(trained, key=order, reverse=True):  # the smallest that holds it comes last
        fits = (to_hw <= jnp.array(one)).all(axis=1, keepdims=True)
        canvas = jnp.where(fits, jnp.array(one), canvas)

    def with_canvas(found: PaddedDetections, batch: Batch) -> PaddedDetections:
        new = detect(config, len(category_ids), variables, batch)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(batch["image_valid"].reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, new, found)

    found = _nothing(sizes_hw, config.inference.max_detections)
    taken = jnp.zeros_like(usable)
    for height, width in choices:
        here = usable & (canvas == jnp.array([height, width])).all(axis=1)
        batch = {
            "image": resized[:, :height, :width],
            "size_hw": jnp.where(here[:, None], to_hw, 1),
            "original_hw": sizes_hw,
            "image_valid": here,
        }
        found = jax.lax.cond(here.any(), with_canvas, lambda found, _: found, found, batch)
        taken |= here
    return _named(found, taken, jnp.array(category_ids, jnp.int32))


def _resized(
    data: DataConfig, side: int, images: UInt8[Array, "b h w 3"], sizes_hw: Int[Array, "b 2"]
) -> tuple[UInt8[Array, "b s s 3"], Int[Array, "b 2"], Bool[Array, " b"]]:
    """The images in the corners of squares of `side` px, their sizes, and which could be taken."""
    rules = (data.short_side, data.long_side, data.resize)
    limits = jnp.minimum(jnp.array(images.shape[1:3], jnp.int32), LARGEST)
    usable = ((sizes_hw >= 1) & (sizes_hw <= limits)).all(axis=1)
    sizes_hw = jnp.where(usable[:, None], sizes_hw, 1)
    to_hw = jax.vmap(lambda hw: resized_hw(hw, *rules))(sizes_hw)
    usable &= (to_hw <= side).all(axis=1)
    to_hw = jnp.where(usable[:, None], to_hw, 1)
    antialias = data.resize in transforms.ANTIALIASED

    def one(row: tuple[Array, Array, Array]) -> Array:
        return resize(*row, (side, side), antialias)

    return jax.lax.map(one, (images, sizes_hw, to_hw)), to_hw, usable


def _nothing(sizes_hw: Int[Array, "b 2"], detections: int) -> PaddedDetections:
    """No detection in any image."""
    images = sizes_hw.shape[0]  # may be symbolic
    return PaddedDetections(
        boxes_xyxy=jnp.zeros((images, detections, 4), jnp.float32),
        scores=jnp.zeros((images, detections), jnp.float32),
        labels=jnp.zeros((images, detections), jnp.int32),
        valid=jnp.zeros((images, detections), bool),
    )


def _named(
    found: PaddedDetections, taken: Bool[Array, " b"], ids: Int[Array, " c"]
) -> dict[str, Array]:
    """Real detections first, the other slots empty, labels as category ids."""
    order = jnp.argsort(~found.valid, axis=1, stable=True)
    valid = jnp.take_along_axis(found.valid, order, 1)
    boxes = jnp.take_along_axis(found.boxes_xyxy, order[..., None], 1)
    scores = jnp.take_along_axis(found.scores, order, 1)
    labels = jnp.take_along_axis(found.labels, order, 1)
    return {
        "boxes_xyxy": jnp.where(valid[..., None], boxes, 0.0),
        "scores": jnp.where(valid, scores, 0.0),
        "category_ids": jnp.where(valid, ids[labels], -1),
        "count": jnp.where(taken, valid.sum(axis=1, dtype=jnp.int32), -1),
    }
