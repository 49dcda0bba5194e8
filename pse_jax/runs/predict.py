"""Detections over a data set, on all devices."""

import dataclasses

import jax
import numpy as np

from pse_jax import distributed, progress
from pse_jax.data.dataset import Dataset
from pse_jax.data.pipeline import eval_batches
from pse_jax.detector import Detector
from pse_jax.evaluation.arrays import Results


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What was found, and the ids of images that could not be read."""

    results: Results
    unreadable: list[int]


def predict(detector: Detector, dataset: Dataset) -> Predicted:
    """Runs over every image once; all processes take the same number of steps and get all of it.

    Raises:
        UserError: if the configuration's batch does not divide among the devices.
    """
    mesh = distributed.make_mesh()
    variables = jax.device_put(detector.variables, distributed.replicated(mesh))
    detector = dataclasses.replace(detector, variables=variables)
    parts: list[tuple[np.ndarray, ...]] = []
    unreadable: list[int] = []
    with progress.bar(len(dataset), "evaluate") as bar:
        for batch in eval_batches(dataset, detector.config):
            on_device = distributed.to_devices(batch, mesh)
            keys = ("image", "size_hw", "original_hw", "image_valid")
            found = detector.detect({key: on_device[key] for key in keys}, mesh)
            found, index, broken, valid = distributed.fetch(
                (found, *(on_device[key] for key in ("index", "unreadable", "image_valid")))
            )
            unreadable += dataset.image_ids[index[broken]].tolist()
            image, slot = np.nonzero(found.valid)
            boxes = np.asarray(found.boxes_xyxy, np.float64)[image, slot]
            boxes[:, 2:] -= boxes[:, :2]
            scores = np.asarray(found.scores, np.float64)[image, slot]
            parts.append((index[image], found.labels[image, slot], boxes, scores))
            bar.update(int(valid.sum()))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Predicted(Results("these detections", *columns), unreadable)
