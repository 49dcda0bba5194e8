"""Which ground truth a detection lies on: the protocol behind every score-IoU number here.

Table II of the paper gives correlations over "final detection results" and no tool. Here: every
detection of the file (after the detector's own score threshold and NMS, none left out), with the
IoU of its box and the best ground-truth box *of the same class in the same image*, crowd regions
aside; 0 where there is none. The IoU is Eq. (7), without any +1 smoothing, computed as pycocotools
does, bit for bit. Two detections may have their best IoU with the same object.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from pse_jax.evaluation.arrays import Bools, Floats, GroundTruth, Ints, Results

CHUNK = 1 << 16  # detections whose pairs are held at once: bounds the memory


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Overlapping (detection, object) pairs of one image, ordered by detection, then object.

    `iou` is the intersection over the detection's own area where the object is a crowd region
    (pycocotools' rule), over the union otherwise. Pairs that don't touch are left out.
    """

    detection: Int[np.ndarray, "p"]
    object: Int[np.ndarray, "p"]
    iou: Float[np.ndarray, "p"]


@dataclasses.dataclass(frozen=True)
class Matches:
    """Who was matched with whom: the object of each detection (-1: none), and what to ignore."""

    object: Ints
    ignored: Bools  # lies on a crowd region: neither right nor wrong

    @property
    def correct(self) -> Bools:
        """True positives."""
        return (self.object >= 0) & ~self.ignored

    @property
    def wrong(self) -> Bools:
        """False positives."""
        return (self.object < 0) & ~self.ignored


def best_iou(ground_truth: GroundTruth, detections: Results) -> Floats:
    """IoU of every detection with the best object of its class and image; see the module."""
    return best_object(ground_truth, detections)[1]


def best_object(ground_truth: GroundTruth, detections: Results) -> tuple[Ints, Floats]:
    """The object of `best_iou` (-1: none touches; the first of equals) and its IoU."""
    pairs = overlaps(ground_truth, detections, same_class=True)
    keep = ~ground_truth.crowd[pairs.object]
    return best_of(select(pairs, keep), len(detections))


def best_of(pairs: Pairs, count: int) -> tuple[Ints, Floats]:
    """For each of `count` detections its object of highest IoU (-1: none) and that IoU (0)."""
    objects, ious = np.full(count, -1, np.int64), np.zeros(count)
    # Ascending IoU and, among equals, descending object: the last write wins.
    order = np.lexsort((-pairs.object, pairs.iou))
    objects[pairs.detection[order]] = pairs.object[order]
    ious[pairs.detection[order]] = pairs.iou[order]
    return objects, ious


def overlaps(ground_truth: GroundTruth, detections: Results, *, same_class: bool) -> Pairs:
    """All overlapping pairs in the same image, of the same class or of any."""
    classes = len(ground_truth.categories.ids) if same_class else 1
    truth_key = ground_truth.image * classes + ground_truth.category * same_class
    found_key = detections.image * classes + detections.category * same_class
    order = np.argsort(truth_key, kind="stable")
    first = np.searchsorted(truth_key[order], found_key, side="left")
    count = np.searchsorted(truth_key[order], found_key, side="right") - first
    parts = []
    for start in range(0, max(len(detections), 1), CHUNK):
        number = count[start : start + CHUNK]
        rows = np.repeat(np.arange(start, start + len(number)), number)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(number) - number, number)
        objects = order[first[rows] + within]
        iou = _iou(
            detections.boxes_xywh[rows],
            ground_truth.boxes_xywh[objects],
            ground_truth.crowd[objects],
        )
        keep = iou > 0
        parts.append((rows[keep], objects[keep], iou[keep]))
    rows, objects, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(rows, objects, iou)


def match(
    ground_truth: GroundTruth, detections: Results, pairs: Pairs, *, threshold: float = 0.5
) -> Matches:
    """COCO's greedy matching, class by class, without a cap on detections per image.

    By descending score (equals in the file's order) each detection takes the free object of
    highest IoU, at least `threshold`. One that finds none and lies on a crowd region of its class
    is ignored. `pairs` are those of `overlaps`, of the same class or of any.
    """
    same = own_class(ground_truth, detections, pairs)
    return greedy(ground_truth, detections, select(pairs, same & reaches(pairs, threshold)))


def greedy(ground_truth: GroundTruth, detections: Results, pairs: Pairs) -> Matches:
    """`match` with any choice of pairs; of equal IoUs an object of the detection's own class."""
    rows, objects, crowd = pairs.detection, pairs.object, ground_truth.crowd[pairs.object]
    other = ~own_class(ground_truth, detections, pairs)
    # Last key first: score, then the detection, real objects before crowds, the highest IoU, and
    # of equal IoUs the later object, as pycocotools.
    keys = (-objects, other, -pairs.iou, crowd, rows, -detections.scores[rows])
    order = np.lexsort(keys)
    matched, ignored = np.full(len(detections), -1, np.int64), np.zeros(len(detections), bool)
    taken = np.zeros(len(ground_truth.image), bool)
    columns = (rows[order], objects[order], crowd[order])
    for row, item, is_crowd in zip(*(column.tolist() for column in columns), strict=True):
        if matched[row] < 0 and not taken[item]:
            matched[row], ignored[row] = item, is_crowd
            taken[item] = not is_crowd  # any number of detections may lie on one crowd region
    return Matches(matched, ignored)


def own_class(
    ground_truth: GroundTruth, detections: Results, pairs: Pairs
) -> Bool[np.ndarray, "p"]:
    """Whether the two of each pair are of the same class."""
    return ground_truth.category[pairs.object] == detections.category[pairs.detection]


def reaches(pairs: Pairs, threshold: float) -> Bool[np.ndarray, "p"]:
    """Whether the IoU of each pair is enough, as pycocotools decides it."""
    return pairs.iou >= min(threshold, 1 - 1e-10)


def select(pairs: Pairs, keep: Bool[np.ndarray, "p"]) -> Pairs:
    """Those of the pairs that are to be kept."""
    return Pairs(pairs.detection[keep], pairs.object[keep], pairs.iou[keep])


def _iou(
    found_xywh: Float[np.ndarray, "p 4"],
    truth_xywh: Float[np.ndarray, "p 4"],
    crowd: Bool[np.ndarray, "p"],
) -> Float[np.ndarray, "p"]:
    low = np.maximum(found_xywh[:, :2], truth_xywh[:, :2])
    high = np.minimum(found_xywh[:, :2] + found_xywh[:, 2:], truth_xywh[:, :2] + truth_xywh[:, 2:])
    width, height = np.maximum(high - low, 0).T
    inter = width * height
    found_area = found_xywh[:, 2] * found_xywh[:, 3]
    truth_area = truth_xywh[:, 2] * truth_xywh[:, 3]
    union = np.where(crowd, found_area, found_area + truth_area - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
