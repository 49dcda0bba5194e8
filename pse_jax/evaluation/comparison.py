"""Several detectors on the same images: differences, and how sure they are.

Intervals are those of a bootstrap over images: as many images as there are, drawn with replacement,
and every measure computed anew, COCO's AP included. All detectors see the same draws, so the
interval of a difference is a paired one: what makes an image hard for both cancels. Its limits are
percentiles of the draws. An image that is drawn twice repeats its scores, which raises AP; that
cancels in a difference, but percentiles of one detector's AP would lie too high: its limits are the
basic bootstrap's, the percentiles mirrored at the value. benchmarks/bootstrap.py holds both against
a known truth. They tell what other images like these would give, not what training again with
another seed would.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pse_jax.errors import ResultsError
from pse_jax.evaluation.measure import Examined
from pse_jax.evaluation.oracles import with_transported_scores
from pse_jax.evaluation.weighted import AveragePrecision, Objects, Weights
from pse_jax.evaluation.weighted_ranks import (
    BestF1,
    ClassRanks,
    Inversions,
    LocalisationError,
    Pearson,
)

METRICS = ("AP", "AP50", "AP75", "oracle_gap", "PCC", "rho_cls", "inversion_rate", "LaECE", "f1")
LEVEL = 0.95
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value of all images, and the limits of its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Every metric and the AP of every class, of each detector and against the first.

    Dimension letters: n detectors, r resamples, m metrics (`METRICS`) and c classes.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]  # of the classes
    objects: Int[np.ndarray, "c"]
    object_images: Int[np.ndarray, "c"]  # images with an object of the class
    images: int
    resamples: int
    seed: int
    metrics: Float[np.ndarray, "n m"]
    classes: Float[np.ndarray, "n c"]
    drawn_metrics: Float[np.ndarray, "r n m"]
    drawn_classes: Float[np.ndarray, "r n c"]

    def metric(self, name: str, detector: int, against: int | None = None) -> Interval:
        """A metric of a detector, or the detector's less that of another."""
        column = METRICS.index(name)
        return _interval(
            self.metrics[:, column], self.drawn_metrics[:, :, column], detector, against
        )

    def of_class(self, label: int, detector: int, against: int | None = None) -> Interval:
        """The AP of a class, or the detector's less that of another."""
        return _interval(self.classes[:, label], self.drawn_classes[:, :, label], detector, against)

    def content(self) -> dict[str, Any]:
        """The content of comparison.json: every value and difference with its interval."""

        def both(of: Callable[..., Interval], detector: int) -> dict[str, Any]:
            values = dataclasses.asdict(of(detector))
            if detector:
                values["difference"] = dataclasses.asdict(of(detector, 0))
            return values

        return {
            "labels": self.labels,
            "against": self.labels[0],
            "images": self.images,
            "resamples": self.resamples,
            "seed": self.seed,
            "level": LEVEL,
            "metrics": {
                name: {
                    label: both(partial(self.metric, name), i)
                    for i, label in enumerate(self.labels)
                }
                for name in METRICS
            },
            "classes": [
                {
                    "name": name,
                    "objects": int(self.objects[k]),
                    "images": int(self.object_images[k]),
                    "AP": {
                        label: both(partial(self.of_class, k), i)
                        for i, label in enumerate(self.labels)
                    },
                }
                for k, name in enumerate(self.names)
            ],
        }


def compare(
    examined: Sequence[Examined],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
) -> Comparison:
    """Computes every measure of every detector on all images and on each resample.

    Args:
        examined: what `examine` returns of each detector's results, on the same ground truth.
        labels: what to call the detectors.
        resamples: how many; 0 for no intervals.
        seed: of the draws.
        tick: called after each resample, for a progress bar.

    Raises:
        ResultsError: if the ground truth is not the same.
    """
    truth = examined[0].ground_truth
    for one in examined[1:]:
        if one.ground_truth is not truth:
            raise ResultsError(
                f"{one.detections.source} was examined with other ground truth than "
                f"{examined[0].detections.source}; load it once and examine both with it"
            )
    objects, measures = Objects(truth), [Measures(one) for one in examined]
    images, classes = len(truth.image_ids), len(truth.categories)
    metrics, per_class = _measured(measures, np.ones(images, np.int64), objects)
    drawn = np.empty((resamples, len(measures), len(METRICS)))
    drawn_classes = np.empty((resamples, len(measures), classes))
    for row, weights in enumerate(draws(images, resamples, seed)):
        drawn[row], drawn_classes[row] = _measured(measures, weights, objects)
        tick()
    once = np.unique(np.stack([objects.image, objects.category]), axis=1)
    return Comparison(
        labels=tuple(labels),
        names=truth.categories.unique_names,
        objects=objects(np.ones(images, np.int64)),
        object_images=np.bincount(once[1], minlength=classes),
        images=images,
        resamples=resamples,
        seed=seed,
        metrics=metrics,
        classes=per_class,
        drawn_metrics=drawn,
        drawn_classes=drawn_classes,
    )


def draws(images: int, resamples: int, seed: int) -> Iterator[Weights]:
    """How often each image is drawn, of as many draws as there are images."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(images, size=images), minlength=images)


class Measures:
    """One detector's results, prepared so that weights of the images can be tried quickly."""

    def __init__(self, examined: Examined):
        truth, found = examined.ground_truth, examined.detections
        oracle = with_transported_scores(found, examined.ious)
        self.precision = AveragePrecision(truth, found, examined.pairs)
        self.oracle = AveragePrecision(truth, oracle, examined.pairs)
        parts = (Pearson, ClassRanks, Inversions)
        self.others = [part(examined) for part in parts]
        self.error, self.best_f1 = LocalisationError(examined), BestF1(examined)

    def __call__(
        self, weights: Weights, objects: Int[np.ndarray, "c"]
    ) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "c"]]:
        """The metrics and the AP of every class."""
        ap = self.precision(weights, objects)
        mean = _mean(ap)
        gap = _mean(self.oracle(weights, objects)) - mean
        values = [mean, _mean(ap[0]), _mean(ap[5]), gap, *(part(weights) for part in self.others)]
        values += [self.error(weights, objects), self.best_f1(weights, int(objects.sum()))]
        return np.array(values), ap.mean(axis=0)


def _measured(
    measures: Sequence[Measures], weights: Weights, objects: Objects
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n c"]]:
    """The metrics and the APs of the classes of each detector."""
    counts = objects(weights)
    columns = zip(*(measure(weights, counts) for measure in measures), strict=True)
    metrics, classes = (np.stack(column) for column in columns)
    return metrics, classes


def _interval(
    values: Float[np.ndarray, "n"],
    drawn: Float[np.ndarray, "r n"],
    detector: int,
    against: int | None,
) -> Interval:
    value, column = values[detector], drawn[:, detector]
    if against is not None:
        value, column = value - values[against], column - drawn[:, against]
    column = column[~np.isnan(column)]
    if not len(column) or np.isnan(value):
        return Interval(float(value), float("nan"), float("nan"))
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = np.quantile(column, tails).tolist()
    if against is None:  # the bias is in the value and again in the draws: mirrored, it is in none
        low, high = 2 * value - high, 2 * value - low
    return Interval(float(value), float(low), float(high))


def _mean(values: Float[np.ndarray, "..."]) -> float:
    """The mean over what is defined, NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
