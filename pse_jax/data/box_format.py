"""Boxes that are written in another format than COCO's [x, y, width, height] in px.

Nothing marks the format of four numbers; many boxes together show it. If they were corners, many
would reach over the image when read as widths, and as corners all fit.

Dimension letters: g annotations.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float

from pse_jax.data.dataset import Dataset
from pse_jax.errors import DataError
from pse_jax.evaluation.box_forms import TO_XYXY

Boxes = Float[np.ndarray, "g 4"]
Sides = Float[np.ndarray, "g 2"]  # width and height

MISFITS = 0.002  # share of boxes that may fit the other reading badly: mistakes among them
SLACK = 0.01  # of the image's side, and a pixel, by which a box may be wrong
FEWEST = 5  # normalised boxes, if one has a number over 1
LARGEST_SHARE = 1.5  # over 1, as a normalised box may stick out of its image


@dataclasses.dataclass(frozen=True)
class Reading:
    """A way to read four numbers, and how many boxes must speak against COCO's for it."""

    name: str
    corners: Callable[[Boxes], Boxes]  # xyxy
    remedy: str = ""
    fewest: int = 5  # boxes that reach over their images as [x, y, width, height]: not mistakes
    share: float = 1 / 3  # of all boxes; of corners, a half to three quarters reach over
    slack: float = SLACK  # of the image's side, beside a pixel, to reach over it


COCO = Reading("[x, y, width, height]", TO_XYXY["xywh"])
OTHERS = (
    Reading("[x1, y1, x2, y2]", TO_XYXY["xyxy"], "write [x1, y1, x2 - x1, y2 - y1]"),
    Reading("[y1, x1, y2, x2]", TO_XYXY["yxyx"], "write [x1, y1, x2 - x1, y2 - y1]"),
    # Of images that are far from square, a quarter and more.
    Reading("[y, x, height, width]", TO_XYXY["yxhw"], "write [x, y, width, height]", share=0.1),
    # Wrong by half a width only, which few boxes show.
    Reading(
        "[centre x, centre y, width, height]",
        TO_XYXY["cxcywh"],
        "write [centre x - width / 2, centre y - height / 2, width, height]",
        fewest=10,
        share=0.03,
        slack=0.0,
    ),
)


def wrong_format(dataset: Dataset) -> Iterator[str]:
    """Why the boxes seem not to be [x, y, width, height] in px, and the remedy, in a sentence.

    Nothing for boxes that fit their images, however few or odd they are.
    """
    boxes = dataset.boxes_xywh
    boxes = boxes[boxes.max(axis=1, initial=0) > 0]
    if not len(boxes):
        return
    highest = boxes.max()
    if highest <= 1 or (highest <= LARGEST_SHARE and len(boxes) >= FEWEST):
        yield _normalised(boxes)
        return
    boxes = dataset.boxes_xywh
    sides = dataset.sizes_hw[dataset.image][:, ::-1].astype(np.float64)
    likely = [reading for reading in OTHERS if _is_likelier(reading, boxes, sides)]
    if likely:
        out = ~_fits(COCO, boxes, sides, 1 + SLACK * sides)
        g = int((boxes[:, :2] + boxes[:, 2:] - sides).max(axis=1).argmax())
        width, height = sides[g].astype(int).tolist()
        yield (
            f"{int(out.sum()):,} of {len(boxes):,} boxes reach over their images if read as "
            f"{COCO.name}, such as {numbers(boxes[g])} of image id "
            f"{dataset.image_ids[dataset.image[g]]} ({width}x{height} px), but lie inside as "
            f"{' or as '.join(r.name for r in likely)}: {'; or '.join(r.remedy for r in likely)}"
        )


def _is_likelier(reading: Reading, boxes: Boxes, sides: Sides) -> bool:
    """Whether many boxes reach over their images as COCO's, and (nearly) none does as another's."""
    out = ~_fits(COCO, boxes, sides, 1 + reading.slack * sides)
    misfits = ~_fits(reading, boxes, sides, 1 + reading.slack * sides)
    enough = max(reading.fewest, reading.share * len(boxes))
    return bool(out.sum() >= enough and misfits.mean() <= MISFITS)


def require_format(dataset: Dataset) -> None:
    """Raises DataError if the boxes seem not to be [x, y, width, height] in px."""
    for sentence in wrong_format(dataset):
        raise DataError(f"{dataset.source}: {sentence}")


def _normalised(boxes: Boxes) -> str:
    """The sentence for boxes that are shares of their images' sides."""
    one = np.ones((len(boxes), 2))
    fits = (r for slack in (0.01, LARGEST_SHARE - 1) for r in (COCO, *OTHERS)
            if _fits(r, boxes, one, slack * one).all())  # fmt: skip
    reading = next(fits, COCO)
    sides = ("height", "width") if reading.name.startswith("[y") else ("width", "height")
    then = f"; then {reading.remedy}" if reading.remedy else ""
    return (
        f"no bbox has a number above {max(1, boxes.max()):g}, such as {numbers(boxes[0])}: they "
        f"seem to be normalised, {reading.name} as shares of the image's sides; multiply the first "
        f"and third number by the image's {sides[0]} in px, the second and fourth by its {sides[1]}"
        f"{then}"
    )


def _fits(
    reading: Reading,
    boxes: Boxes,
    sides: Sides,
    slack: Sides,
) -> Bool[np.ndarray, " g"]:
    """Which boxes have their corners in order and, but for `slack` px, inside their image."""
    corners = reading.corners(boxes)
    low, high = corners[:, :2], corners[:, 2:]
    return np.all((low >= -slack) & (high <= sides + slack) & (high >= low), axis=1)


def numbers(box: Float[np.ndarray, " 4"]) -> str:
    """A box as messages show it, `[8, 4.5, 40, 20]`."""
    return "[" + ", ".join(f"{value:g}" for value in np.round(box, 4)) + "]"
