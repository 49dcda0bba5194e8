"""The meanings that four numbers of a box have in the files that people write."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pse_jax.evaluation.arrays import xywh_to_xyxy

Boxes = Float[np.ndarray, "n 4"]


def _centred(boxes: Boxes) -> Boxes:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _swapped(boxes: Boxes) -> Boxes:
    return boxes[:, [1, 0, 3, 2]]


# Each form's corners, xyxy. COCO's is xywh.
TO_XYXY: dict[str, Callable[[Boxes], Boxes]] = {
    "xywh": xywh_to_xyxy,
    "xyxy": lambda boxes: boxes,
    "cxcywh": _centred,
    "yxhw": lambda boxes: xywh_to_xyxy(_swapped(boxes)),
    "yxyx": _swapped,
}
