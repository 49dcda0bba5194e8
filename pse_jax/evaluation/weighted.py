"""The AP of a data set in which every image counts a whole number of times.

That is what a bootstrap needs: an image drawn twice counts as two images, one that is not drawn not
at all. What does not depend on the weights (matching, sorting) is done once, so that a resample
costs a few passes over the matches. With all weights 1 the numbers are those of `precision`.
Repeats of an image stand side by side in the order of scores, so the AP is that of pycocotools on
the repeated list, but for equal scores of one class in one image, whose order COCO leaves open.

Dimension letters: i images, c classes, d detections, t true positives of all thresholds.
"""

import numpy as np
from jaxtyping import Float, Int

from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.matching import Pairs, match, select
from pse_jax.evaluation.precision import CAP, LEVELS, THRESHOLDS, by_class, highest

Weights = Int[np.ndarray, "i"]


class Objects:
    """How many objects each class has, crowds aside."""

    def __init__(self, truth: GroundTruth):
        self.image, self.category = (a[~truth.crowd] for a in (truth.image, truth.category))
        self.classes = len(truth.categories)

    def __call__(self, weights: Weights) -> Int[np.ndarray, "c"]:
        """The number in each class."""
        counts = np.bincount(self.category, weights[self.image], self.classes)
        return counts.astype(np.int64)


class AveragePrecision:
    """COCO's AP of every class at every IoU threshold.

    The detections are in the order of class, score and image; a segment is one class at one
    threshold. Only true positives matter: a point of the curve between two of them is never the
    highest precision at its recall or beyond.
    """

    def __init__(self, truth: GroundTruth, detections: Results, pairs: Pairs):
        keep, classes = highest(detections, CAP), len(truth.categories)
        pairs = select(pairs, keep[pairs.detection])
        groups = by_class(detections, detections.category, keep, classes)
        order = np.concatenate(groups)
        self.image = detections.image[order]
        first = np.cumsum([0, *map(len, groups)])
        right, crowd, place = [], [], [0]
        for threshold in THRESHOLDS.tolist():
            matches = match(truth, detections, pairs, threshold=threshold)
            right.append(np.flatnonzero(matches.correct[order]))
            crowd.append(np.flatnonzero(matches.ignored[order]))
            place.append(place[-1] + len(crowd[-1]))
        self.right = np.concatenate(right)  # places of the true positives among the detections
        self.crowd = np.concatenate(crowd)  # and of the ignored detections
        # Of each true positive: its class, its segment, and the ignored detections before it.
        starts = [np.searchsorted(rows, first) for rows in right]
        ends = np.cumsum([0, *map(len, right)])[:-1]
        self.starts = np.append(
            np.concatenate([s[:-1] + end for s, end in zip(starts, ends, strict=True)]),
            len(self.right),
        )
        sizes = np.diff(self.starts)
        self.segment = np.repeat(np.arange(len(sizes)), sizes)
        self.category = self.segment % classes
        self.is_first = np.diff(self.segment, prepend=-1) > 0
        self.first = first[self.category]
        ignored = list(zip(right, crowd, place, strict=False))
        self.ignored = np.concatenate([np.searchsorted(c, r) + p for r, c, p in ignored])
        before = np.concatenate([np.searchsorted(c, first[:-1]) + p for _, c, p in ignored])
        self.ignored_before = before[self.segment]
        self.classes = classes

    def __call__(
        self, weights: Weights, objects: Int[np.ndarray, "c"]
    ) -> Float[np.ndarray, "10 c"]:
        """The AP at each threshold and of each class; NaN for a class without objects."""
        shape = (len(THRESHOLDS), self.classes)
        count = objects[self.category]
        found = self._within(_sums(weights[self.image[self.right]])[1:])
        every, ignored = (_sums(weights[self.image[rows]]) for rows in (slice(None), self.crowd))
        seen = every[self.right + 1] - every[self.first]
        seen -= ignored[self.ignored] - ignored[self.ignored_before]
        precision = found / (seen + np.spacing(1))  # as pycocotools
        for start, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            backwards = precision[start:end][::-1]
            np.maximum.accumulate(backwards, out=backwards)
        recall = np.divide(found, count, out=np.zeros(len(found)), where=count > 0)
        # How many recall levels are reached: at most one off the product, because of rounding.
        near = (recall * 100).astype(np.int64)
        levels = near + 1 + (LEVELS[np.minimum(near + 1, 100)] <= recall) * (near < 100)
        levels -= LEVELS[near] > recall
        new = levels - np.where(self.is_first, 0, np.roll(levels, 1))
        total = np.bincount(self.segment, precision * new, shape[0] * shape[1]).reshape(shape)
        return np.where(objects > 0, total / len(LEVELS), np.nan)

    def _within(self, sums: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t"]:
        """Running sums over all true positives as sums within their segments."""
        before = np.concatenate([[0], sums])[self.starts[:-1]]
        return sums - before[self.segment]


def _sums(weights: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n+1"]:
    """The sum of all weights before each place."""
    return np.concatenate([[0], np.cumsum(weights)])
