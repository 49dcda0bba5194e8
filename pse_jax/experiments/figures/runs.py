"""Fig. 2: what a run's detector computes on its validation images."""

import json
import logging
from pathlib import Path

from pse_jax.data.dataset import Dataset
from pse_jax.detector import Detector
from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.evaluation.matching import best_iou
from pse_jax.experiments.figures import lost
from pse_jax.experiments.figures.examples import draw_examples
from pse_jax.experiments.figures.inspect import inspect_dataset
from pse_jax.experiments.figures.lost import Lost
from pse_jax.experiments.figures.scatter import Density
from pse_jax.postprocess import extent_of
from pse_jax.report import style
from pse_jax.runs.predict import predict

logger = logging.getLogger(__name__)


def look_at(detector: Detector, dataset: Dataset) -> tuple[dict[str, Density], list[Lost]]:
    """Score against IoU before and after NMS, and for every object found what NMS chose."""
    rule = detector.config.inference
    scopes = ("candidate locations", "candidates before NMS", "final detections")
    locations, candidates, final = densities = [Density() for _ in scopes]
    boxes: list[Lost] = []
    for image in inspect_dataset(detector, dataset):
        locations.add(image.location_scores, image.location_ious)
        candidates.add(image.candidates.scores, lost.nearest_objects(image.candidates, image)[1])
        boxes += lost.lost_boxes(image, rule.nms_threshold, extent_of(rule))
    results = predict(detector, dataset).results
    final.add(results.scores, best_iou(dataset, results))
    return dict(zip(scopes, densities, strict=True)), boxes


def save_examples(
    boxes: list[Lost], dataset: Dataset, out: Path, name: str, count: int, min_score: float
) -> list[Path]:
    """Prints what NMS lost and writes it to OUT/NAME.json, the worst examples to .png and .pdf."""
    numbers = lost.summary(boxes, min_score)
    print(lost.describe(numbers, min_score))
    chosen = lost.worst(boxes, count, min_score, min_iou=0.5)
    if not chosen:
        logger.warning("%s: no example with a kept score over %g", name, min_score)
        return []
    files = style.save(draw_examples(chosen, dataset), out, name)
    file = out / f"{name}.json"
    file.write_text(json.dumps(nan_to_none(numbers), indent=2) + "\n")
    return [*files, file]
