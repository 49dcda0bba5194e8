"""Small detection problems, and the plain loops that the fast code must agree with."""

from typing import Any

import numpy as np

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.arrays import GroundTruth, Results

Case = tuple[GroundTruth, Results]


def instances(boxes: list[dict[str, Any]], images: int = 2, classes: int = 2) -> dict[str, Any]:
    """A COCO file's content; ids have gaps, images and categories are out of order."""
    return {
        "images": [{"id": 10 * i, "file_name": f"{i}.jpg"} for i in range(images, 0, -1)],
        "categories": [{"id": 7 * c, "name": f"class {c}"} for c in range(classes, 0, -1)],
        "annotations": [{"id": index, **box} for index, box in enumerate(boxes)],
    }


def random_case(seed: int, *, images: int = 6, classes: int = 3, ties: bool = True) -> Case:
    """Crowds, duplicates, wrong classes, empty images, equal scores, boxes that just touch."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(1, images + 1):
        objects = []
        for _ in range(rng.integers(0, 5)):
            box = [*rng.integers(0, 60, 2), *rng.integers(8, 60, 2)]
            row = {"image_id": 10 * image, "category_id": 7 * int(rng.integers(1, classes + 1))}
            row |= {"bbox": [float(v) for v in box], "area": float(box[2] * box[3] * 40)}
            truth.append(row | {"iscrowd": int(rng.random() < 0.2)})
            objects.append(row)
        for _ in range(rng.integers(0, 16)):
            box = [float(v) for v in (*rng.integers(0, 60, 2), *rng.integers(8, 60, 2))]
            label = 7 * int(rng.integers(1, classes + 1))
            if objects and rng.random() < 0.7:
                near = objects[rng.integers(len(objects))]
                box = [max(v + float(rng.integers(-6, 7)), 1.0) for v in near["bbox"]]
                label = near["category_id"] if rng.random() < 0.8 else label
            score = float(rng.integers(1, 9)) / 10 if ties else float(rng.random())
            found.append(
                {"image_id": 10 * image, "category_id": label, "bbox": box, "score": score}
            )
    ground_truth = load_ground_truth(instances(truth, images, classes))
    return ground_truth, load_results(found, ground_truth)


def loop_iou(a: Any, b: Any) -> float:
    """IoU of two xywh boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    union = a[2] * a[3] + b[2] * b[3] - inter
    return inter / union if union > 0 else 0.0
