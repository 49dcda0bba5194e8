"""Correlation, ranking, calibration and F1 where every image counts a whole number of times.

The companions of `weighted`; with all weights 1 they are the numbers of `measure`. Dimension
letters: i images, d detections, c classes.
"""

import numpy as np
from jaxtyping import Float, Int

from pse_jax.errors import ResultsError
from pse_jax.evaluation import calibration, ranking
from pse_jax.evaluation.arrays import Floats, Ints
from pse_jax.evaluation.measure import Examined, nan_mean
from pse_jax.evaluation.weighted import Weights

NAN = float("nan")


class Pearson:
    """The correlation of scores and IoUs over all detections (PCC)."""

    def __init__(self, examined: Examined):
        a, b = (v - v.mean() for v in (examined.detections.scores, examined.ious))
        images = len(examined.ground_truth.image_ids)
        columns = (np.ones(len(a)), a, b, a * a, b * b, a * b)
        self.moments = np.stack(
            [np.bincount(examined.detections.image, c, images) for c in columns]
        )

    def __call__(self, weights: Weights) -> float:
        """NaN where it is undefined."""
        n, a, b, aa, bb, ab = self.moments @ weights
        if n < 2:
            return NAN
        spread = (aa - a * a / n) * (bb - b * b / n)
        return float((ab - a * b / n) / np.sqrt(spread)) if spread > 1e-20 * n * n else NAN


class ClassRanks:
    """The mean over classes of Spearman's rho over a class's true positives (rho_cls)."""

    def __init__(self, examined: Examined):
        rows = np.flatnonzero(examined.matches.correct)
        found = examined.detections
        self.image, self.category = found.image[rows], found.category[rows]
        self.classes = len(examined.ground_truth.categories)
        values = (found.scores[rows], examined.ious[rows])
        self.orders = [_Order(self.category, column) for column in values]

    def __call__(self, weights: Weights) -> float:
        """NaN if no class has two different ones."""
        w = weights[self.image]
        count = self._sum(w)
        safe = np.maximum(count, 1)
        a, b = (order.ranks(w) for order in self.orders)
        a, b = (v - (self._sum(w * v) / safe)[self.category] for v in (a, b))
        spread = self._sum(w * a * a) * self._sum(w * b * b)
        rho = np.full(self.classes, np.nan)
        # Ranks are multiples of 1/2: a spread is 0 but for rounding, or at least about 1/4.
        np.divide(self._sum(w * a * b), np.sqrt(spread), out=rho, where=spread > 1e-6)
        return nan_mean(rho)

    def _sum(self, values: Floats | Ints) -> Float[np.ndarray, "c"]:
        return np.bincount(self.category, values, self.classes)


class _Order:
    """The order of values within groups, for ranks in which each value counts several times."""

    def __init__(self, group: Ints, values: Floats):
        self.order = np.lexsort((values, group))
        group, values = group[self.order], values[self.order]
        new = np.diff(group, prepend=-1) != 0
        self.start = np.flatnonzero(new)[np.cumsum(new) - 1]  # of the group of each
        other = new.copy()
        other[1:] |= np.diff(values) != 0
        ties = np.flatnonzero(other)
        which = np.cumsum(other) - 1
        self.low, self.high = ties[which], np.append(ties, len(group))[which + 1]  # among equals

    def ranks(self, weights: Ints) -> Floats:
        """The mean rank of each value, from 1 in its group."""
        sums = np.concatenate([[0], np.cumsum(weights[self.order])])
        ranks = np.empty(len(weights))
        middle = (sums[self.low] + sums[self.high] + 1) / 2
        ranks[self.order] = middle - sums[self.start]
        return ranks


class Inversions:
    """The share of pairs, in one image and class, of which the better box has the lower score."""

    def __init__(self, examined: Examined):
        keep, found = examined.counted, examined.detections
        images, classes = (
            len(examined.ground_truth.image_ids),
            len(examined.ground_truth.categories),
        )
        image, scores, ious = found.image[keep], found.scores[keep], examined.ious[keep]
        group = image * classes + found.category[keep]
        self.pairs, self.inverted = ranking.inversions(group, image, scores, ious, images)

    def __call__(self, weights: Weights) -> float:
        """NaN without a pair."""
        pairs = int(self.pairs @ weights)
        return int(self.inverted @ weights) / pairs if pairs else NAN


class LocalisationError:
    """LaECE0, the mean over classes; NaN where scores are no probabilities."""

    def __init__(self, examined: Examined):
        keep, found = examined.quality.counted, examined.detections
        self.classes = len(examined.ground_truth.categories)
        self.image, self.category, scores = (
            column[keep] for column in (found.image, found.category, found.scores)
        )
        try:
            calibration.require_probabilities(scores)
        except ResultsError:
            self.key = None
            return
        self.gap = scores - examined.quality.iou[keep]
        self.key = self.category * calibration.BINS + calibration.bin_of(scores)

    def __call__(self, weights: Weights, objects: Int[np.ndarray, "c"]) -> float:
        """Of the classes that have objects and detections; NaN if there is none."""
        if self.key is None:
            return NAN
        w = weights[self.image]
        gap = np.bincount(self.key, w * self.gap, self.classes * calibration.BINS)
        count = np.bincount(self.category, w, self.classes)
        total = np.abs(gap).reshape(self.classes, -1).sum(axis=1)
        empty = np.full(self.classes, np.nan)
        return nan_mean(np.divide(total, count, out=empty, where=(count > 0) & (objects > 0)))


class BestF1:
    """The highest F1 at IoU 0.5 that one threshold for all classes reaches."""

    def __init__(self, examined: Examined):
        rows = np.flatnonzero(examined.counted)
        scores = examined.detections.scores[rows]
        order = np.argsort(-scores, kind="stable")
        rows, scores = rows[order], scores[order]
        self.image, self.correct = examined.detections.image[rows], examined.matches.correct[rows]
        self.last = np.flatnonzero(np.append(np.diff(scores) != 0, True)[: len(scores)])

    def __call__(self, weights: Weights, objects: int) -> float:
        """NaN without objects."""
        if not objects:
            return NAN
        w = weights[self.image]
        kept, right = np.cumsum(w)[self.last], np.cumsum(w * self.correct)[self.last]
        return float((2 * right / (kept + objects)).max(initial=0.0))
