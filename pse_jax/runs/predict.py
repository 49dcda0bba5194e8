"""Detections over a data set, on all devices."""

import dataclasses
import functools
import io
import json
import logging

import jax
import numpy as np
from tqdm import tqdm

from pse_jax import distributed, progress
from pse_jax.config import to_dict
from pse_jax.data.dataset import Dataset
from pse_jax.data.pipeline import eval_batches
from pse_jax.data.plan import canvases_for
from pse_jax.detector import Detector
from pse_jax.evaluation.arrays import Results
from pse_jax.processes import coordination

logger = logging.getLogger(__name__)

NONE = np.zeros(0, np.int32)
NO_DETECTIONS = (NONE, NONE, np.zeros((0, 4)), np.zeros(0))


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What was found, in the order of the images, and the ids of those that could not be read."""

    results: Results
    unreadable: list[int]
    images: int  # that were looked at


def predict(detector: Detector, dataset: Dataset) -> Predicted:
    """Runs over every image once, in as many steps on every process; each keeps its own rows.

    What one process has found is all there is where there is no other; else see `gather`.

    Raises:
        UserError: if the configuration's batch does not divide among the devices.
    """
    mesh = distributed.make_mesh()
    variables = jax.device_put(detector.variables, distributed.replicated(mesh))
    detector = dataclasses.replace(detector, variables=variables)
    parts: list[tuple[np.ndarray, ...]] = [NO_DETECTIONS]
    unreadable: list[int] = []
    images = 0
    keys = ("image", "size_hw", "original_hw", "image_valid")
    trained = detector.canvases_hw
    shapes = len(canvases_for(dataset.sizes_hw, detector.config.data, trained).shapes_hw)
    with progress.bar(len(dataset), "evaluate") as bar:
        for batch in eval_batches(dataset, detector.config, trained):
            _say_if_compiling(detector, batch["image"].shape[1:3], shapes, bar)
            inputs = distributed.to_devices({key: batch[key] for key in keys}, mesh)
            found = distributed.own_rows(detector.detect(inputs, mesh))
            index, broken = batch["index"], batch["unreadable"]
            unreadable += dataset.image_ids[index[broken]].tolist()
            images += int((batch["image_valid"] | broken).sum())
            image, slot = np.nonzero(found.valid)
            boxes = np.asarray(found.boxes_xyxy, np.float64)[image, slot]
            boxes[:, 2:] -= boxes[:, :2]
            scores = np.asarray(found.scores, np.float64)[image, slot]
            parts.append((index[image], found.labels[image, slot], boxes, scores))
            bar.set_postfix_str("", refresh=False)
            bar.update(len(broken) * jax.process_count())
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return _in_order(columns, unreadable, images)


@functools.lru_cache(maxsize=32)
def _compiled(config_json: str, classes: int) -> list[tuple[int, ...]]:
    """The shapes of images for which `detector.compiled` has a program in this process."""
    return []


def _say_if_compiling(detector: Detector, shape: tuple[int, ...], shapes: int, bar: tqdm) -> None:
    """On the bar and in the log, before the first batch of a shape."""
    done = _compiled(json.dumps(to_dict(detector.config)), len(detector.categories))
    if shape not in done:
        done.append(shape)
        bar.set_postfix_str(f"compiling {len(done)} of {shapes}")
        text = "compiling %d of %d: the evaluation for %dx%d images"
        logger.info(text, len(done), shapes, *shape[::-1])


def gather(predicted: Predicted) -> Predicted | None:
    """What all processes found, on the main one; None, at once, on the others.

    Raises:
        ProcessError: if one does not say what it found.
    """
    mine, results = io.BytesIO(), predicted.results
    np.savez(
        mine, results.image, results.category, results.boxes_xywh, results.scores,
        np.array(predicted.unreadable, np.int64), np.array(predicted.images),
    )  # fmt: skip
    told = coordination.gather(mine.getvalue(), "say what it has found")
    if told is None:
        return None
    parts = [list(np.load(io.BytesIO(one)).values()) for one in told]
    arrays = zip(*(part[:-1] for part in parts), strict=True)
    *columns, unreadable = [np.concatenate(array) for array in arrays]
    return _in_order(columns, unreadable.tolist(), sum(int(part[-1]) for part in parts))


def _in_order(columns: list[np.ndarray], unreadable: list[int], images: int) -> Predicted:
    """By image; those of one image stay as they are, best first."""
    order = np.argsort(columns[0], kind="stable")
    results = Results("these detections", *(column[order] for column in columns))
    return Predicted(results, sorted(unreadable), images)
