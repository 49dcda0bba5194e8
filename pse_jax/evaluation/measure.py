"""Every number of the report, from ground truth and detections to one JSON-like dictionary.

Crowds: PCC, SCC and KCC are over every detection, as in `evaluation.matching`. Everything else
leaves out the detections that COCO ignores, those that lie on a crowd region of their class;
calibration by its own matching (`calibration.own_iou`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pse_jax.errors import ResultsError
from pse_jax.evaluation import calibration, ranking, tide
from pse_jax.evaluation.arrays import Bools, Floats, GroundTruth, Ints, Results
from pse_jax.evaluation.correlation import correlations
from pse_jax.evaluation.matching import Matches, Pairs, best_object, match, overlaps
from pse_jax.evaluation.precision import object_counts

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}  # COCO


@dataclasses.dataclass(frozen=True)
class Examined:
    """A data set's detections beside what they lie on; the start of every measure."""

    ground_truth: GroundTruth
    detections: Results
    pairs: Pairs  # of the same image, of any class
    best: Ints  # object of highest IoU, -1 for none
    ious: Floats
    matches: Matches  # at IoU 0.5
    breakdown: tide.Breakdown
    quality: calibration.Quality

    @property
    def counted(self) -> Bools:
        """The detections that COCO doesn't ignore."""
        return ~self.matches.ignored

    @property
    def objects(self) -> Int[np.ndarray, "c"]:
        """How many objects each class has, crowds aside."""
        return object_counts(self.ground_truth)

    @property
    def counts(self) -> dict[str, int]:
        """How much there is of everything."""
        truth, found = self.ground_truth, self.detections
        return {
            "images": len(truth.image_ids),
            "images_without_detections": len(truth.image_ids) - len(np.unique(found.image)),
            "classes": len(truth.categories.ids),
            "objects": int((~truth.crowd).sum()),
            "crowds": int(truth.crowd.sum()),
            "detections": len(found),
            "ignored": int(self.matches.ignored.sum()),
        }


def examine(ground_truth: GroundTruth, detections: Results) -> Examined:
    """Matches detections with objects; ResultsError if there is nothing to analyse."""
    if not len(detections):
        raise ResultsError(
            f"{detections.source} holds no detections, so there is nothing to analyse; lower the "
            "detector's score threshold, or look at what wrote the file"
        )
    if ground_truth.crowd.all():
        raise ResultsError(f"{ground_truth.source} holds no objects (crowds aside)")
    best, ious = best_object(ground_truth, detections)
    pairs = overlaps(ground_truth, detections, same_class=False)
    matches = match(ground_truth, detections, pairs, threshold=tide.FOREGROUND)
    breakdown = tide.break_down(ground_truth, detections, pairs, matches)
    quality = calibration.own_iou(ground_truth, detections)
    return Examined(ground_truth, detections, pairs, best, ious, matches, breakdown, quality)


def correlation_table(examined: Examined) -> dict[str, dict[str, Any]]:
    """PCC, SCC, KCC and `count`: all detections, the true positives, and by size of the box."""
    area = examined.detections.boxes_xywh[:, 2] * examined.detections.boxes_xywh[:, 3]
    groups = {"all": np.ones(len(area), bool), "true positives": examined.matches.correct}
    groups |= {name: (area >= low) & (area < high) for name, (low, high) in SIZES.items()}
    scores, ious = examined.detections.scores, examined.ious
    return {
        name: {"count": int(keep.sum()), **correlations(scores[keep], ious[keep])}
        for name, keep in groups.items()
    }


def image_ranks(examined: Examined) -> Float[np.ndarray, "i"]:
    """rho_img of every image."""
    keep, found = examined.counted, examined.detections
    images = len(examined.ground_truth.image_ids)
    return ranking.grouped_spearman(
        found.image[keep], found.scores[keep], examined.ious[keep], images
    )


def class_table(examined: Examined, per_class_ap: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per class: counts, AP, correlations, ranking, calibration and the best threshold."""
    truth, found, counted = examined.ground_truth, examined.detections, examined.counted
    classes, correct = len(truth.categories), examined.matches.correct
    category, scores, ious = found.category[counted], found.scores[counted], examined.ious[counted]
    rho = ranking.grouped_spearman(
        found.category[correct], found.scores[correct], examined.ious[correct], classes
    )
    group = found.image[counted] * classes + category
    pairs, inverted = ranking.inversions(group, category, scores, ious, classes)
    try:
        laece = _by_class(calibration.laece, examined)
    except ResultsError:  # the caller says so once
        laece = np.full(classes, np.nan)
    best = calibration.operating_points(truth, found, examined.matches)[1]
    rows = []
    for index, name in enumerate(truth.categories.unique_names):
        mine = found.category == index
        rows.append(
            {
                "id": truth.categories.ids[index],
                "name": name,
                "objects": int(examined.objects[index]),
                "detections": int(mine.sum()),
                "true_positives": int((mine & correct).sum()),
                "AP": per_class_ap[name],
                **correlations(found.scores[mine], examined.ious[mine]),
                "rho_cls": float(rho[index]),
                "pairs": int(pairs[index]),
                "inverted": int(inverted[index]),
                "inversion_rate": ratio(int(inverted[index]), int(pairs[index])),
                "LaECE": float(laece[index]),
                **dataclasses.asdict(best[index]),
            }
        )
    return rows


def calibrate(examined: Examined) -> dict[str, Any]:
    """LaECE0 and LaACE0 (means over classes) and the bins of the reliability diagram over all.

    The diagram's are of the same detections and qualities. Its precision is that of the breakdown
    of errors: COCO's, at IoU 0.5, of the detections that are not ignored there.
    """
    scores, keep = examined.detections.scores, examined.quality.counted
    bins = calibration.reliability(scores[keep], examined.quality.iou[keep])
    keep = examined.counted
    correct = examined.matches.correct[keep].astype(np.float64)
    return {
        "LaECE": nan_mean(_by_class(calibration.laece, examined)),
        "LaACE": nan_mean(_by_class(calibration.laace, examined)),
        "bins": {
            "count": bins["count"],
            "score": bins["score"],
            "iou": bins["quality"],
            "precision": calibration.reliability(scores[keep], correct)["quality"],
        },
    }


def _by_class(error: Callable[..., Floats], examined: Examined) -> Float[np.ndarray, "c"]:
    found, quality = examined.detections, examined.quality
    columns = (found.category, found.scores, quality.iou)
    classes = len(examined.ground_truth.categories)
    return error(*(column[quality.counted] for column in columns), classes)


def ratio(part: int, whole: int) -> float:
    """The part over the whole, NaN for an empty whole."""
    return part / whole if whole else float("nan")


def nan_mean(values: Float[np.ndarray, "n"]) -> float:
    """The mean of what is defined, NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
