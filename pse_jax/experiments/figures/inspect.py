"""What a detector computes before NMS: each location assigned to an object, each candidate.

Dimensions: b images, p locations, c classes, n candidates, m box slots, d detections.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from pse_jax import boxes, distributed, models, postprocess, progress
from pse_jax.config import Config, InferenceConfig
from pse_jax.data.dataset import Dataset
from pse_jax.data.pipeline import eval_batches
from pse_jax.detector import Detector
from pse_jax.models import Predictions
from pse_jax.points import locations
from pse_jax.postprocess import PaddedDetections
from pse_jax.targets import assign

CANDIDATES = 1000  # per image, best first; on COCO most images have fewer


@dataclasses.dataclass(frozen=True)
class InspectedImage:
    """What was computed on one image; the locations are those assigned to an object.

    Candidates and detections come without padding, best first.
    """

    index: int  # in the data set
    scale_xy: Float[np.ndarray, " 2"]  # from px of the resized to px of the original image
    location_scores: Float[np.ndarray, " p"]  # what is ranked by: the maximum over classes, P̂
    location_ious: Float[np.ndarray, " p"]  # Î, Eq. (7), with the object of the location
    candidates: PaddedDetections  # before NMS
    found: PaddedDetections  # after it
    object_boxes: Float[np.ndarray, "k 4"]  # xyxy, px of the resized image
    object_labels: Int[np.ndarray, " k"]


def inspect_image(
    shape: tuple[int, int],
    config: Config,
    predictions: Predictions,
    size_hw: Int[Array, " 2"],
    image_valid: Bool[Array, ""],
    boxes_xyxy: Float[Array, "m 4"],
    labels: Int[Array, " m"],
    box_valid: Bool[Array, " m"],
) -> dict[str, Any]:
    """One image of a batch on a canvas of that shape, with its ground truth in px of the canvas.

    Returns:
        `score`, `iou` and `positive` of every location (`InspectedImage` says which), `candidates`
        before NMS (the `CANDIDATES` best of them), and `found`, the detections after it.
    """
    rule, grid = config.inference, config.model.grid
    points_xy, levels = (jnp.asarray(a) for a in locations(*shape, grid))
    targets = assign(points_xy, levels, boxes_xyxy, labels, box_valid, config.targets)
    quality = predictions.quality_logits
    quality = None if quality is None else jax.nn.sigmoid(quality)
    score = jax.nn.sigmoid(predictions.class_logits.max(axis=-1))

    def detect(rule: InferenceConfig) -> PaddedDetections:
        return postprocess.detections(predictions, size_hw, image_valid, shape, rule, grid)

    everything = dataclasses.replace(rule, nms_threshold=2.0, max_detections=CANDIDATES)
    return {
        "score": postprocess.final_scores(score, quality, rule),
        "iou": boxes.distance_iou(predictions.distances, targets.distances),
        "positive": targets.positive & image_valid,
        "candidates": detect(everything),  # no IoU is over 2
        "found": detect(rule),
    }


def inspect_dataset(detector: Detector, dataset: Dataset) -> Iterator[InspectedImage]:
    """Every readable image once, on all devices.

    Raises:
        UserError: if the configuration's batch does not divide among the devices.
    """
    config, mesh = detector.config, distributed.make_mesh()
    model = models.create(config.model, len(detector.categories))
    split = PartitionSpec("data")

    def inspect(variables: models.Variables, batch: dict[str, Array]) -> dict[str, Any]:
        images = models.preprocess(batch["image"], batch["size_hw"], config.model)
        shape = (batch["image"].shape[1], batch["image"].shape[2])
        keys = ("size_hw", "image_valid", "boxes", "labels", "box_valid")
        predictions: Any = model.apply(variables, images)
        rows = (predictions, *(batch[key] for key in keys))
        each = jax.vmap(functools.partial(inspect_image, shape, config))
        return jax.shard_map(each, mesh=mesh, in_specs=split, out_specs=split)(*rows)

    compiled = jax.jit(inspect, out_shardings=distributed.split(mesh))
    variables = jax.device_put(detector.variables, distributed.replicated(mesh))
    with progress.bar(len(dataset), "inspect") as bar:
        for batch in eval_batches(dataset, config, detector.canvases_hw):
            seen = jax.device_get(compiled(variables, distributed.to_devices(batch, mesh)))
            for row in np.flatnonzero(batch["image_valid"]).tolist():
                yield _image(batch, seen, row)
            bar.update(int(batch["image_valid"].sum()))


def _image(batch: dict[str, np.ndarray], seen: dict[str, Any], row: int) -> InspectedImage:
    def valid(boxes: PaddedDetections) -> PaddedDetections:
        return jax.tree.map(lambda values: values[row][boxes.valid[row]], boxes)

    positive, real = seen["positive"][row], batch["box_valid"][row]
    return InspectedImage(
        index=int(batch["index"][row]),
        scale_xy=(batch["original_hw"][row] / batch["size_hw"][row])[::-1],
        location_scores=seen["score"][row][positive],
        location_ious=seen["iou"][row][positive],
        candidates=valid(seen["candidates"]),
        found=valid(seen["found"]),
        object_boxes=batch["boxes"][row][real],
        object_labels=batch["labels"][row][real],
    )
