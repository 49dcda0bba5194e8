"""The detector: configuration, categories and variables; pixels in, named boxes out."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, UInt8

from pse_jax import models, postprocess
from pse_jax.categories import Categories
from pse_jax.config import Config, from_dict, to_dict
from pse_jax.data import transforms
from pse_jax.data.padding import Canvases, canvas_hw
from pse_jax.detections import AnyImage, Detections, Thresholds
from pse_jax.postprocess import PaddedDetections

Batch = dict[str, Any]  # of arrays

BATCH = 8  # images of a list that go through the network together


@dataclasses.dataclass(frozen=True)
class Detector:
    """A model with its parameters, how it is used, and what its classes are called."""

    config: Config
    categories: Categories
    variables: models.Variables  # {"params": ..., "frozen": ...}
    step: int = 0  # training steps that it has seen; 0 for a published one
    thresholds: Thresholds | None = None  # of a run's checkpoint that was evaluated
    canvases_hw: Canvases = ()  # of training, which images are padded to; (): unknown

    @overload
    def __call__(self, images: AnyImage) -> Detections: ...
    @overload
    def __call__(self, images: Sequence[AnyImage]) -> list[Detections]: ...

    def __call__(self, images):
        """Detections of one image or of each of a list, in the pixels of each.

        Images may have any size and are resized as the configuration says, and any mode: see
        `data.modes.rgb`. The pixels of a file or a Pillow image are turned upright by its EXIF
        orientation first, unless the configuration says data.exif="ignore": boxes are in pixels of
        the turned image. The program is compiled once for each of a few canvas shapes, nine for
        all but extremely elongated images, and two batch sizes: one image, and `BATCH` of a list.
        Any number of threads may call it.

        Args:
            images: a path, a Pillow image or uint8 RGB pixels [height, width, 3]; or a list of
                these.

        Raises:
            ImageError: for a file that cannot be decoded, or an array of another type or shape.
        """
        if not isinstance(images, list | tuple):
            return self([images])[0]
        return self.run(self.prepare(image) for image in images)

    def prepare(self, image: AnyImage) -> "Prepared":
        """Decodes, resizes and pads one image; any number of threads may call it.

        Raises:
            ImageError: if it cannot be decoded.
        """
        return prepare(image, self.config, self.canvases_hw)

    @property
    def best_thresholds(self) -> dict[int, float]:
        """The score of best F1 of each category id; 0.3 where no evaluation has found one."""
        return (self.thresholds or Thresholds(None, {})).of(self.categories)

    def run(self, images: Iterable["Prepared"]) -> list[Detections]:
        """Detections of prepared images, in their order; those of a canvas together."""
        found: dict[int, Detections] = {}
        waiting: dict[tuple[int, ...], dict[int, Prepared]] = {}  # by canvas
        for index, one in enumerate(images):
            group = waiting.setdefault(one.canvas.shape, {})
            group[index] = one
            if len(group) == BATCH:
                found |= self._together(group)
                group.clear()
        for group in waiting.values():
            for index, one in group.items():
                found |= self._together({index: one})
        return [found[index] for index in sorted(found)]

    def _together(self, group: dict[int, "Prepared"]) -> dict[int, Detections]:
        """The detections of prepared images of one canvas, by their numbers."""
        rows = group.values()
        padded = jax.device_get(
            self.detect(
                {
                    "image": np.stack([one.canvas for one in rows]),
                    "size_hw": np.array([one.resized_hw for one in rows], np.int32),
                    "original_hw": np.array([one.original_hw for one in rows], np.int32),
                    "image_valid": np.ones(len(rows), bool),
                }
            )
        )
        found = {}
        for row, index in enumerate(group):
            keep = padded.valid[row]
            labels = padded.labels[row][keep]
            found[index] = Detections(
                boxes_xyxy=padded.boxes_xyxy[row][keep],
                scores=padded.scores[row][keep],
                category_ids=np.asarray(self.categories.ids)[labels],
                names=tuple(self.categories.names[label] for label in labels),
                classes=labels,
            )
        return found

    def detect(self, batch: Batch, mesh: Mesh | None = None) -> PaddedDetections:
        """The function `detect` of this detector, compiled; with a mesh, split among its devices.

        The compiled program is shared by all detectors of the same configuration.
        """
        return compiled(self._key, len(self.categories), mesh)(self.variables, batch)

    @functools.cached_property
    def _key(self) -> str:
        return json.dumps(to_dict(self.config))


def detect(
    config: Config, num_classes: int, variables: models.Variables, batch: Batch
) -> PaddedDetections:
    """Detections of a batch, in pixels of the original images: a pure function of its arguments.

    Args:
        config: of the detector.
        num_classes: that it tells apart.
        variables: of the model.
        batch: `image`, uint8 RGB [b, h, w, 3]; `size_hw`, int [b, 2], the part of it that is not
            padding; `original_hw`, int [b, 2], the image's size before it was resized; and
            `image_valid`, bool [b], False for rows that only fill up the batch.
    """
    model = models.create(config.model, num_classes)
    images = models.preprocess(batch["image"], batch["size_hw"], config.model)
    predictions: Any = model.apply(variables, images)
    shape = (batch["image"].shape[1], batch["image"].shape[2])

    def one(predictions: models.Predictions, size_hw: Array, valid: Array) -> PaddedDetections:
        return postprocess.detections(
            predictions, size_hw, valid, shape, config.inference, config.model.grid
        )

    found = jax.vmap(one)(predictions, batch["size_hw"], batch["image_valid"])
    original = batch["original_hw"].astype(jnp.float32)
    scale_hw = original / batch["size_hw"]
    inclusive = config.inference.inclusive_boxes
    return postprocess.rescale(found, scale_hw[:, ::-1], original, inclusive=inclusive)


@functools.lru_cache(maxsize=32)
def compiled(
    config_json: str, num_classes: int, mesh: Mesh | None
) -> Callable[[models.Variables, Batch], PaddedDetections]:
    """`detect`, jitted. With a mesh each device takes its share of the batch, and nothing else."""
    function = functools.partial(detect, from_dict(json.loads(config_json)), num_classes)
    if mesh is not None:
        rows = PartitionSpec("data")
        function = jax.shard_map(
            function, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows
        )
    return jax.jit(function)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An image as the network takes it."""

    canvas: UInt8[np.ndarray, "h w 3"]
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]


def prepare(image: AnyImage, config: Config, trained: Canvases = ()) -> Prepared:
    """Decodes, resizes and pads one image."""
    data = config.data
    pixels = transforms.pixels_of(image, data.exif)
    original = (pixels.shape[0], pixels.shape[1])
    hw = transforms.resized_hw(*original, data.short_side, data.long_side, data.resize)
    canvas = canvas_hw(hw, max(data.short_side, data.long_side), trained)
    return Prepared(
        transforms.pad(transforms.resize(pixels, hw, data.resize), canvas), hw, original
    )
