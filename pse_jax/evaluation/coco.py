"""COCO's twelve numbers and the AP of every class, by pycocotools: the numbers of record."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pse_jax.evaluation.arrays import GroundTruth, Results

METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")


def evaluate_coco(
    truth: GroundTruth,
    results: Results,
    *,
    areas: bool = True,
    image_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """COCO's box metrics in [0, 1]: the names in `METRICS`, and `per_class` {name: AP}.

    What has no ground truth (pycocotools' -1) is NaN. With ground truth and no detection, AP is 0.
    Annotation ids are renumbered from 1: pycocotools takes a match with an object whose id is 0 for
    no match.

    Args:
        truth: the objects.
        results: the detections.
        areas: False leaves APS to ARL as NaN, for a quarter of the time.
        image_ids: evaluate only these images; all that are annotated by default.
    """
    arrays = precision_recall(truth, results, areas=areas, image_ids=image_ids)
    return summarise(truth.categories.unique_names, *arrays)


def precision_recall(
    truth: GroundTruth,
    found: Results,
    *,
    areas: bool = True,
    image_ids: Sequence[int] | None = None,
) -> tuple[Float[np.ndarray, "t r k a m"], Float[np.ndarray, "t k a m"]]:
    """Interpolated precision and recall of pycocotools, -1 where there is no ground truth.

    Axes: t thresholds .5:.05:.95, r recall levels 0:.01:1, k classes in the order of their ids,
    a areas all/small/medium/large (or all alone), m 1/10/100 detections an image and class.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco: Any = COCO()
        coco.dataset = _instances(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, _results(coco, found, truth), "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = sorted(set(image_ids))
        if not areas:
            evaluation.params.areaRng = evaluation.params.areaRng[:1]
            evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def summarise(
    category_names: Sequence[str],
    precision: Float[np.ndarray, "t r k a m"],
    recall: Float[np.ndarray, "t k a m"],
) -> dict[str, Any]:
    """The twelve means of `COCOeval.summarize` and every class's AP from `precision_recall`."""
    numbers: dict[str, Any] = dict.fromkeys(METRICS, float("nan"))
    numbers["AP"] = _mean(precision[:, :, :, 0, 2])
    numbers["AP50"] = _mean(precision[0, :, :, 0, 2])
    numbers["AP75"] = _mean(precision[5, :, :, 0, 2])
    for index, cap in enumerate((1, 10, 100)):
        numbers[f"AR{cap}"] = _mean(recall[:, :, 0, index])
    for index, area in list(enumerate("*SML"))[1 : precision.shape[3]]:
        numbers["AP" + area] = _mean(precision[:, :, :, index, 2])
        numbers["AR" + area] = _mean(recall[:, :, index, 2])
    per_class = [_mean(precision[:, :, index, 0, 2]) for index in range(precision.shape[2])]
    return {**numbers, "per_class": dict(zip(category_names, per_class, strict=True))}


def _mean(values: np.ndarray) -> float:
    """The mean of the entries that are defined (not -1), NaN if none is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else float("nan")


def _instances(truth: GroundTruth) -> dict[str, Any]:
    """The ground truth as the dictionary that pycocotools indexes."""
    image = truth.image_ids[truth.image]
    category = np.asarray(truth.categories.ids)[truth.category]
    columns = (image, category, truth.boxes_xywh, truth.area, truth.crowd)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        "images": [{"id": value} for value in truth.image_ids.tolist()],
        "categories": [
            {"id": value, "name": name}
            for value, name in zip(truth.categories.ids, truth.categories.names, strict=True)
        ],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": a, "iscrowd": int(k)}
            for n, (i, c, b, a, k) in enumerate(rows, start=1)
        ],
    }


def _results(coco: Any, found: Results, truth: GroundTruth) -> Any:
    """The detections as a COCO object; an empty one where `loadRes` would fail."""
    if len(found):
        return coco.loadRes(found.to_coco(truth))
    empty: Any = COCO()
    empty.dataset = {**_instances(truth), "annotations": []}
    empty.createIndex()
    return empty
