"""Results that nearly nothing can be right in: is it the box format, the scale or the class ids?

Asked before anything is measured, because every number of such a file is an accident. Only the
detections of the highest scores are looked at, as many as there are objects: among a hundred an
image some overlap objects by chance in any reading.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import optimize

from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.box_forms import TO_XYXY
from pse_jax.evaluation.matching import Pairs, best_of, overlaps, own_class, reaches, select

FEW = 0.05  # of the best-scored detections: fewer that overlap an object are suspicious
CLEAR = 0.2  # of them overlap one in another reading, and TIMES as many: that is what was meant
TIMES = 1.5
FORMS = {"xywh": "xywh", "xyxy": "xyxy", "cxcywh": "cxcywh (centre and size)", "yxyx": "yxyx"}
PLAUSIBLE = 0.98  # of the boxes have corners in order and inside, in a reading that is tried
IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """What a results file seems to hold, in words, and whether another reading explains it."""

    text: str
    explained: bool


def suspect(
    truth: GroundTruth, found: Results, sizes_hw: Float[np.ndarray, "i 2"] | None = None
) -> Suspicion | None:
    """What is wrong with the boxes or the classes of all results; None if nothing seems to be.

    Args:
        truth: of the data set.
        found: on it.
        sizes_hw: px, of each image, to try coordinates that are parts of its sides; NaN where
            unknown.
    """
    count = min(len(found), int((~truth.crowd).sum()))
    best_scored = np.argsort(-found.scores, kind="stable")[:count]
    found = Results(
        found.source,
        *(
            column[best_scored]
            for column in (found.image, found.category, found.boxes_xywh, found.scores)
        ),
    )
    pairs = overlaps(truth, found, same_class=False)
    now = _matching(truth, found, pairs)
    best, name = 0, ""
    for other_name, boxes in _readings(found, sizes_hw):
        usable = (boxes[:, 2:] >= 0) & (boxes[:, :2] >= -1 - 0.05 * np.abs(boxes[:, 2:]))
        usable = np.all(usable, axis=1)
        if usable.mean() < PLAUSIBLE:
            continue
        other = dataclasses.replace(found, boxes_xywh=np.where(usable[:, None], boxes, 0.0))
        number = _matching(truth, other, overlaps(truth, other, same_class=False))
        if number > best:
            best, name = number, other_name
    few = f"{now:,} of the {count:,} best-scored detections overlap any object (IoU 0.5 or more)"
    if best >= CLEAR * count and best >= TIMES * now:
        text = f"boxes look like {name}: only {few}; read so, {best:,} would"
        return Suspicion(f"{text}. COCO's results hold [x, y, width, height] in pixels", True)
    shifted = dataclasses.replace(found, image=(found.image + 1) % len(truth.image_ids))
    chance = _matching(truth, shifted, overlaps(truth, shifted, same_class=False))
    if now >= FEW * count and (now >= 0.5 * count or now > 1.2 * chance):
        return _wrong_classes(truth, found, pairs, now)
    text = (
        f"only {few}: are these results and these annotations of the same images, and their boxes "
        "[x, y, width, height] in pixels of the original image?"
    )
    return Suspicion(text, False)


def _matching(truth: GroundTruth, found: Results, pairs: Pairs) -> int:
    """How many detections have IoU 0.5 with an object of any class."""
    regular = select(pairs, ~truth.crowd[pairs.object] & reaches(pairs, IOU))
    return len(np.unique(regular.detection))


def _readings(
    found: Results, sizes_hw: Float[np.ndarray, "i 2"] | None
) -> Iterator[tuple[str, Float[np.ndarray, "d 4"]]]:
    """Other meanings of the four numbers, and the xywh in pixels that they would stand for."""
    scales = {"": np.ones((len(found), 4))}
    if sizes_hw is not None:
        scale = np.tile(sizes_hw[found.image][:, ::-1], 2)
        scales["normalised "] = np.where(np.isnan(scale), 0.0, scale)
    for words, scale in scales.items():
        for form, name in FORMS.items():
            if words or form != "xywh":
                corners = TO_XYXY[form](found.boxes_xywh * scale)
                low, high = corners[:, :2], corners[:, 2:]
                yield words + name, np.concatenate([low, high - low], axis=1)


def _wrong_classes(truth: GroundTruth, found: Results, pairs: Pairs, now: int) -> Suspicion | None:
    """Boxes that fit objects of nearly always another class, which one renaming explains."""
    classes = len(truth.categories)
    regular = select(pairs, ~truth.crowd[pairs.object] & reaches(pairs, IOU))
    rows = np.unique(regular.detection)
    same = len(np.unique(select(regular, own_class(truth, found, regular)).detection))
    if classes < 2 or same >= 0.2 * now:
        return None
    nearest, _ = best_of(regular, len(found))
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (found.category[rows], truth.category[nearest[rows]]), 1)
    _, renamed = optimize.linear_sum_assignment(-table)
    better = int(table[np.arange(classes), renamed].sum())
    if better < max(4 * same, 0.6 * now):
        return None
    ids = truth.categories.ids
    names = truth.categories.names
    used = np.argsort(-table.max(axis=1), kind="stable")[:3]
    examples = ", ".join(
        f"{ids[k]} ({names[k]}) lies on {ids[renamed[k]]} ({names[renamed[k]]})"
        for k in used.tolist()
        if table[k].any()
    )
    neighbours = max(int(np.trace(table, offset=step)) for step in (-1, 1))
    off = "off by one" if neighbours >= 0.9 * better else "mixed up"
    text = (
        f"category ids look {off}: of the {now:,} best-scored detections that overlap an object "
        f"(IoU 0.5 or more) only {same:,} have its class, with the ids renamed {better:,} would; "
        f"{examples}. Map the detector's class numbers to the category ids of the annotations"
    )
    return Suspicion(text, True)
