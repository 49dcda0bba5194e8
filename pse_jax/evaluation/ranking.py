"""Does a better box get a higher score than its neighbours? Ranks within groups of detections.

A group is an image, a class, or a class in an image; groups are numbers, one per detection.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from pse_jax.evaluation.arrays import Floats, Ints
from pse_jax.evaluation.tide import BACKGROUND

CELLS = 1 << 21  # pairs compared at once: bounds the memory


def grouped_spearman(
    group: Ints, scores: Floats, ious: Floats, groups: int
) -> Float[np.ndarray, "{groups}"]:
    """Spearman's rho of score and IoU in every group; NaN below two points or if one is constant.

    Over the detections of an image this is CorrLoss's rho_img, over the true positives of a class
    its rho_cls (Kahraman et al., AAAI 2023). CorrLoss takes rho_img over the positives before NMS,
    which a results file doesn't hold; here it is over the final detections.
    """
    from scipy import stats  # slow to import: training starts without it

    rho = np.full(groups, np.nan)
    ends = np.cumsum(np.bincount(group, minlength=groups))[:-1]
    for index, rows in enumerate(np.split(np.argsort(group, kind="stable"), ends)):
        a, b = stats.rankdata(scores[rows]), stats.rankdata(ious[rows])
        if len(rows) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
            rho[index] = np.corrcoef(a, b)[0, 1]
    return rho


def ordered_pairs(
    group: Ints, ious: Floats
) -> Iterator[tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]]:
    """Every pair (better, worse) of one group with IoU[better] > IoU[worse], a block at a time."""
    order = np.argsort(group, kind="stable")
    _, start, size = np.unique(group[order], return_index=True, return_counts=True)
    for n in np.unique(size[size > 1]).tolist():
        members = order[start[size == n][:, None] + np.arange(n)]  # groups of n, stacked
        step = max(1, CELLS // (n * n))
        rows = max(1, CELLS // n)  # a group too large for one block is cut along one side
        for block in (members[i : i + step] for i in range(0, len(members), step)):
            for left in (block[:, i : i + rows] for i in range(0, n, rows)):
                better = ious[left][:, :, None] > ious[block][:, None, :]
                which, i, j = np.nonzero(better)
                yield left[which, i], block[which, j]


def inversions(
    group: Ints, category: Ints, scores: Floats, ious: Floats, categories: int
) -> tuple[Int[np.ndarray, "{categories}"], Int[np.ndarray, "{categories}"]]:
    """For every class the pairs whose IoUs differ, and those of them whose scores are reversed.

    Their ratio is the quality inversion rate: the share of pairs, in one image and class, with
    IoU_i > IoU_j but s_i < s_j (after RankDetNet, CVPR 2021). Equal scores are not inverted.
    """
    pairs, inverted = np.zeros(categories, np.int64), np.zeros(categories, np.int64)
    for better, worse in ordered_pairs(group, ious):
        wrong = scores[better] < scores[worse]
        pairs += np.bincount(category[better], minlength=categories)
        inverted += np.bincount(category[better[wrong]], minlength=categories)
    return pairs, inverted


def worst_pairs(
    best: Ints, image: Ints, scores: Floats, ious: Floats, count: int
) -> list[tuple[int, int]]:
    """At most `count` pairs (better, worse) on one object in which the worse box has the score.

    The paper's Fig. 2(b). Worst first by (IoU gap) x (score gap), one pair per image. `best` is the
    object that each detection lies on, with an IoU of `BACKGROUND` at least.
    """
    on_object = np.flatnonzero(ious >= BACKGROUND)
    found: list[tuple[float, int, int]] = []
    for better, worse in ordered_pairs(best[on_object], ious[on_object]):
        better, worse = on_object[better], on_object[worse]
        harm = (ious[better] - ious[worse]) * (scores[worse] - scores[better])
        # 50 candidates per example: a block's worst may well share their images.
        for index in np.argsort(-harm, kind="stable")[: 50 * count]:
            if harm[index] > 0:
                found.append((float(harm[index]), int(better[index]), int(worse[index])))
    chosen: dict[int, tuple[int, int]] = {}
    for _, better, worse in sorted(found, key=lambda item: (-item[0], item[1:])):
        chosen.setdefault(int(image[better]), (better, worse))
    return list(chosen.values())[:count]
