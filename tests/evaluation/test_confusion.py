"""The confusion matrix against plain loops over images."""

import numpy as np
import pytest
from detection_cases import instances, loop_iou, random_case

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.confusion import confusion_matrix


def loops(truth, found, limits, iou=0.5):
    """The same counts one detection at a time, and how many lie on crowd regions."""
    background = len(truth.categories)
    counts = np.zeros((background + 1, background + 1), int)
    ignored = 0
    for image in range(len(truth.image_ids)):
        mine = [g for g in range(len(truth.image)) if truth.image[g] == image]
        free = [g for g in mine if not truth.crowd[g]]
        kept = [
            d
            for d in range(len(found))
            if found.image[d] == image and found.scores[d] >= limits[found.category[d]]
        ]
        for d in sorted(kept, key=lambda d: -found.scores[d]):  # stable
            best, best_key = None, (iou, False, -1)
            for g in free:
                own = truth.category[g] == found.category[d]
                key = (loop_iou(found.boxes_xywh[d], truth.boxes_xywh[g]), own, g)
                if key >= best_key:
                    best, best_key = g, key
            if best is not None:
                free.remove(best)
                counts[truth.category[best], found.category[d]] += 1
            elif any(covers(found.boxes_xywh[d], truth.boxes_xywh[g]) >= iou for g in mine
                     if truth.crowd[g] and truth.category[g] == found.category[d]):  # fmt: skip
                ignored += 1
            else:
                counts[background, found.category[d]] += 1
        for g in free:
            counts[truth.category[g], background] += 1
    return counts, ignored


def covers(box, crowd):
    """The part of a box that a crowd region covers."""
    width = min(box[0] + box[2], crowd[0] + crowd[2]) - max(box[0], crowd[0])
    height = min(box[1] + box[3], crowd[1] + crowd[3]) - max(box[1], crowd[1])
    return max(width, 0) * max(height, 0) / (box[2] * box[3])


@pytest.mark.parametrize("seed", range(30))
def test_the_counts_of_plain_loops(seed):
    truth, found = random_case(seed, images=8)
    limits = np.random.default_rng(seed).choice([0.1, 0.3, 0.6, np.nan], len(truth.categories))
    got = confusion_matrix(truth, found, threshold=limits)
    counts, ignored = loops(truth, found, limits)
    np.testing.assert_array_equal(got.counts, counts)
    assert got.ignored == ignored
    # Each object and each detection counts once.
    objects = np.bincount(truth.category[~truth.crowd], minlength=3)
    np.testing.assert_array_equal(got.counts[:-1].sum(axis=1), objects)
    assert got.counts[:, :-1].sum() + got.below + got.ignored == len(found)


def test_by_hand():
    """A dog taken for a cat, a second box on it, a missed cat, a box on nothing, a low score."""
    objects = [(7, [0, 0, 10, 10]), (14, [50, 0, 10, 10])]
    truth = load_ground_truth(
        instances([{"image_id": 10, "category_id": c, "bbox": b} for c, b in objects])
    )
    rows = [(14, [0, 0, 10, 9], 0.9), (7, [0, 0, 10, 10], 0.8), (7, [0, 50, 9, 9], 0.7),
            (14, [50, 0, 10, 10], 0.1)]  # fmt: skip
    found = load_results(
        [{"image_id": 10, "category_id": c, "bbox": b, "score": s} for c, b, s in rows], truth
    )
    matrix = confusion_matrix(truth, found, threshold=0.2)
    assert matrix.counts.tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]
    assert matrix.labels == ("class 1", "class 2", "background")
    assert matrix.mistakes() == [("class 1", "class 2", 1)]
    assert (matrix.below, matrix.ignored) == (1, 0)
    assert matrix.shares[2].tolist() == [1, 0, 0]


def test_of_two_objects_in_one_place_the_own_class_is_taken():
    box = {"image_id": 10, "bbox": [0, 0, 10, 10]}
    truth = load_ground_truth(instances([box | {"category_id": c} for c in (7, 14)]))
    rows = [box | {"category_id": 7, "score": 0.9}, box | {"category_id": 14, "score": 0.8}]
    assert confusion_matrix(truth, load_results(rows, truth)).counts.trace() == 2
