"""What the false positives and the missed objects are, in the sense of TIDE.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, with its
thresholds t_f = 0.5 and t_b = 0.1 and its order of precedence: each wrong detection is the first of

    localisation   right class, IoU in [t_b, t_f)
    class          wrong class, IoU >= t_f
    duplicate      right class, IoU >= t_f, but a better-scored detection has the object
    background     IoU < t_b with every object
    both           wrong class and IoU in [t_b, t_f)

and `missed` is an object that no correct, localisation or class detection points at. Results on
a crowd region of their class are ignored. The counts here are of detections and objects, at every
score; `delta_ap50` is the AP50 that fixing one kind alone would add.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool

from pse_jax.evaluation.arrays import Bools, GroundTruth, Ints, Results
from pse_jax.evaluation.matching import Matches, Pairs, best_of
from pse_jax.evaluation.precision import average_precision, object_counts

FOREGROUND, BACKGROUND = 0.5, 0.1  # TIDE, sec. 2.2
WRONG = ("localisation", "class", "duplicate", "background", "both")
KINDS = ("correct", *WRONG, "ignored")
ERRORS = (*WRONG, "missed")


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The kind of every detection (an index into `KINDS`), the object it points at, the misses."""

    kind: Ints
    target: Ints  # -1: no object
    missed: Bool[np.ndarray, "g"]

    def of(self, name: str) -> Bools:
        """The detections of one kind."""
        return self.kind == KINDS.index(name)

    def counts(self, keep: Bools | None = None) -> dict[str, int]:
        """How many detections (of those to keep) are of each kind."""
        kind = self.kind if keep is None else self.kind[keep]
        return dict(zip(KINDS, np.bincount(kind, minlength=len(KINDS)).tolist(), strict=True))


def break_down(
    ground_truth: GroundTruth, detections: Results, pairs: Pairs, matches: Matches
) -> Breakdown:
    """Names every detection's kind; `pairs` are those of any class, `matches` at `FOREGROUND`."""
    regular = ~ground_truth.crowd[pairs.object]
    same = ground_truth.category[pairs.object] == detections.category[pairs.detection]

    def best(keep: Bool[np.ndarray, "p"]) -> tuple[np.ndarray, np.ndarray]:
        chosen = Pairs(pairs.detection[keep], pairs.object[keep], pairs.iou[keep])
        return best_of(chosen, len(detections))

    own, own_iou = best(regular & same)
    other, other_iou = best(regular & ~same)
    names = np.select(
        [
            matches.correct,
            matches.ignored,
            (own_iou >= BACKGROUND) & (own_iou < FOREGROUND),
            other_iou >= FOREGROUND,
            own_iou >= FOREGROUND,
            np.maximum(own_iou, other_iou) < BACKGROUND,
        ],
        [KINDS.index(name) for name in ("correct", "ignored", *WRONG[:4])],
        KINDS.index("both"),
    ).astype(np.int64)
    localisation, confusion = (names == KINDS.index(name) for name in WRONG[:2])
    target = np.where(localisation, own, np.where(confusion, other, -1))
    target = np.where(matches.correct, matches.object, target)
    missed = ~ground_truth.crowd
    missed[target[target >= 0]] = False
    return Breakdown(names, target, missed)


def delta_ap50(
    ground_truth: GroundTruth, detections: Results, breakdown: Breakdown
) -> dict[str, float]:
    """The AP50 gained by fixing one kind of error alone, as TIDE fixes it (never below 0).

    A localisation or class error becomes a true positive if its object is free and no better-scored
    error of the kind points at it, and goes otherwise; duplicate, background and both go; missed
    objects are no longer asked for.
    """
    objects = object_counts(ground_truth)
    correct, counted = breakdown.of("correct"), ~breakdown.of("ignored")
    base = average_precision(detections, detections.category, correct, counted, objects)
    free = np.ones(len(ground_truth.image), bool)
    free[breakdown.target[correct]] = False
    gains = {}
    for name in WRONG:
        kind = breakdown.of(name)
        fixed = np.zeros(len(detections), bool)
        if name in ("localisation", "class"):
            order = np.lexsort((detections.image, -detections.scores))
            order = order[kind[order]]
            order = order[free[breakdown.target[order]]]
            first = np.unique(breakdown.target[order], return_index=True)[1]
            fixed[order[first]] = True
        category = detections.category.copy()
        category[fixed] = ground_truth.category[breakdown.target[fixed]]
        keep = counted & (~kind | fixed)
        value = average_precision(detections, category, correct | fixed, keep, objects)
        gains[name] = value - base
    missed = np.bincount(ground_truth.category[breakdown.missed], minlength=len(objects))
    value = average_precision(detections, detections.category, correct, counted, objects - missed)
    return {name: max(gain, 0.0) for name, gain in (gains | {"missed": value - base}).items()}
