"""Precision-recall curves are pycocotools' own, to the bit."""

import numpy as np
import pytest
from detection_cases import instances, random_case
from evaluation.test_coco_metrics import reference

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.curves import precision_recall


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("level", [0, 5, 9])
def test_the_precision_array_of_pycocotools(seed, level):
    truth, found = random_case(seed)
    expected = reference(truth, found).eval
    curves = precision_recall(truth, found, iou=0.5 + 0.05 * level)
    got = np.nan_to_num(curves.precision, nan=-1)
    np.testing.assert_array_equal(got, expected["precision"][level, :, :, 0, 2].T)
    # Where recall does not reach a level, pycocotools' score is 0.
    scores = np.where(np.isnan(curves.precision), -1, np.nan_to_num(curves.scores, nan=0))
    np.testing.assert_array_equal(scores, expected["scores"][level, :, :, 0, 2].T)


def test_a_class_by_hand():
    """Two objects; right, wrong, right: precision 1 up to recall 1/2, then 2/3."""
    boxes = [[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0]]
    rows = [{"image_id": 10, "category_id": 7, "bbox": box} for box in boxes]
    truth = load_ground_truth(instances([row | {"area": 100} for row in rows]))
    stray = rows[0] | {"bbox": [0.0, 90.0, 10.0, 10.0]}
    found = load_results(
        [row | {"score": s} for row, s in ((rows[0], 0.9), (stray, 0.8), (rows[1], 0.7))], truth
    )
    curves = precision_recall(truth, found)
    np.testing.assert_allclose(curves.precision[0], [1.0] * 51 + [2 / 3] * 50, rtol=1e-15)
    assert curves.scores[0].tolist() == [0.9] * 51 + [0.7] * 50
    assert np.isnan(curves.precision[1]).all() and np.isnan(curves.scores[1]).all()
    np.testing.assert_array_equal(curves.mean, curves.precision[0])  # of class 1 alone
    assert curves.ap[0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_without_objects_or_detections():
    empty = load_ground_truth(instances([]))
    assert np.isnan(precision_recall(empty, load_results([], empty)).mean).all()
    row = {"image_id": 10, "category_id": 7, "bbox": [0.0, 0.0, 9.0, 9.0]}
    truth = load_ground_truth(instances([row]))
    assert (precision_recall(truth, load_results([], truth)).mean == 0).all()
