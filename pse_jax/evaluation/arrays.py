"""Ground truth and detections of a whole data set, as NumPy arrays.

Images and categories are numbered in the order of their ids, as pycocotools numbers them.
Dimension letters: i images, g annotations, d detections.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pse_jax.categories import Categories

# One value per detection.
Floats = Float[np.ndarray, "d"]
Ints = Int[np.ndarray, "d"]
Bools = Bool[np.ndarray, "d"]


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Every annotation of a data set, crowd regions included, in the order of its source.

    `boxes_xywh` holds the source's own numbers, so that pycocotools sees the same bits; `area` is
    the annotation's (a mask's, for COCO), which decides between small, medium and large.
    """

    source: str  # what messages and reports call the data set
    categories: Categories
    image_ids: Int[np.ndarray, "i"]
    image_names: tuple[str, ...]
    image: Int[np.ndarray, "g"]  # index into image_ids
    category: Int[np.ndarray, "g"]  # label, 0..categories-1
    boxes_xywh: Float[np.ndarray, "g 4"]  # px
    area: Float[np.ndarray, "g"]  # px²
    crowd: Bool[np.ndarray, "g"]


@dataclasses.dataclass(frozen=True)
class Results:
    """What a detector found on a data set (COCO's results), in any order.

    `image` and `category` are the numbers of the `GroundTruth` that it belongs to.
    """

    source: str
    image: Ints
    category: Ints
    boxes_xywh: Float[np.ndarray, "d 4"]  # px
    scores: Floats  # any finite numbers; only calibration needs probabilities

    def __len__(self) -> int:
        return len(self.scores)

    def to_coco(self, truth: GroundTruth) -> list[dict[str, Any]]:
        """Rows of COCO's results format, with the data set's own ids."""
        image = truth.image_ids[self.image]
        category = np.asarray(truth.categories.ids)[self.category]
        columns = (image, category, self.boxes_xywh, self.scores)
        return [
            {"image_id": i, "category_id": c, "bbox": b, "score": s}
            for i, c, b, s in zip(*(column.tolist() for column in columns), strict=True)
        ]


def xywh_to_xyxy(boxes_xywh: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """COCO's corner and size to two exclusive corners."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def nan_to_none(value: Any) -> Any:
    """The same nested value with every NaN or infinity as None, which JSON writes as null."""
    if isinstance(value, Mapping):
        return {str(key): nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [nan_to_none(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
