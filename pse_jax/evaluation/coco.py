"""COCO's twelve numbers and the AP of every class: pycocotools' numbers, the numbers of record.

hotcoco, a program of the same arithmetic in Rust, computes the same bits in a small part of the
time (benchmarks/coco_metric.py); it is used where it is installed: pip install "pse-jax[fast]".
"""

import contextlib
import io
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pse_jax.evaluation.arrays import GroundTruth, Results

try:
    import hotcoco  # pyright: ignore[reportMissingImports]
except ImportError:
    hotcoco = None

METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")


def evaluate_coco(truth: GroundTruth, results: Results, *, areas: bool = True) -> dict[str, Any]:
    """COCO's box metrics in [0, 1]: the names in `METRICS`, and `per_class` {name: AP}.

    What has no ground truth (pycocotools' -1) is NaN. With ground truth and no detection, AP is 0.
    Annotation ids are renumbered from 1: pycocotools takes a match with an object whose id is 0 for
    no match. With `areas` off APS to ARL are NaN, for a quarter of the time.
    """
    curves = by_pycocotools if hotcoco is None else by_hotcoco
    precision, recall = curves(truth, results, areas=areas)
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
    names = truth.categories.unique_names
    return {**numbers, "per_class": dict(zip(names, per_class, strict=True))}


Curves = tuple[Float[np.ndarray, "10 101 c s 3"], Float[np.ndarray, "10 c s 3"]]


def by_pycocotools(truth: GroundTruth, results: Results, *, areas: bool = True) -> Curves:
    """Interpolated precision and recall; -1 where there is no ground truth.

    Axes: IoU thresholds .5:.05:.95, recall levels 0:.01:1 (of the precision alone), classes, s
    areas (all, small, medium, large; without `areas` the first), and 1, 10 or 100 detections per
    image and class.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco: Any = COCO()
        coco.dataset = _instances(truth)
        coco.createIndex()
        return _curves(COCOeval(coco, _found(coco, results, truth), "bbox"), areas)


def by_hotcoco(truth: GroundTruth, results: Results, *, areas: bool = True) -> Curves:
    """The same arrays as `by_pycocotools`, to the last bit.

    Images and categories have their numbers for ids here: a data set's own may be negative, which
    hotcoco refuses, and the order of both is the same.
    """
    coco: Any = hotcoco
    images = [{"id": i} for i in range(len(truth.image_ids))]
    categories = [{"id": i, "name": name} for i, name in enumerate(truth.categories.unique_names)]
    objects = coco.COCO.from_arrays(
        images,
        categories,
        truth.image,
        truth.category,
        truth.boxes_xywh,
        area=truth.area,
        iscrowd=truth.crowd,
    )
    columns = (results.image, results.boxes_xywh, results.scores, results.category)
    found = objects.load_res(np.column_stack(columns).astype(np.float64))
    return _curves(coco.COCOeval(objects, found, "bbox"), areas)


def _curves(evaluation: Any, areas: bool) -> Curves:
    """Has either program's evaluation done: hotcoco answers to pycocotools' names."""
    if not areas:
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


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


def _found(coco: Any, results: Results, truth: GroundTruth) -> Any:
    """The detections as a COCO object; an empty one where `loadRes` would fail."""
    if len(results):
        return coco.loadRes(results.to_coco(truth))
    empty: Any = COCO()
    empty.dataset = {**_instances(truth), "annotations": []}
    empty.createIndex()
    return empty
