"""Fig. 2: what a run's detector computes on its validation images."""

import numpy as np

from pse_jax.data.dataset import Dataset
from pse_jax.detector import Detector
from pse_jax.evaluation.matching import best_iou
from pse_jax.experiments.figures import lost
from pse_jax.experiments.figures.inspect import inspect_dataset
from pse_jax.experiments.figures.lost import Lost
from pse_jax.experiments.figures.scatter import Density
from pse_jax.postprocess import extent_of
from pse_jax.runs.predict import predict


def look_at(detector: Detector, dataset: Dataset) -> tuple[dict[str, Density], list[Lost]]:
    """Score against IoU before and after NMS, and for every object found what NMS chose."""
    rule = detector.config.inference
    scopes = ("candidate locations", "candidates before NMS", "final detections")
    locations, candidates, final = densities = [Density() for _ in scopes]
    boxes: list[Lost] = []
    for image in inspect_dataset(detector, dataset):
        locations.add(image.location_scores, image.location_ious)
        ious = lost.nearest_objects(image.candidates, image)[1]
        candidates.add(np.asarray(image.candidates.scores), ious)
        boxes += lost.lost_boxes(image, rule.nms_threshold, extent_of(rule))
    results = predict(detector, dataset).results
    final.add(results.scores, best_iou(dataset, results))
    return dict(zip(scopes, densities, strict=True)), boxes
