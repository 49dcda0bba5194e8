"""Every statistic of `analyze` against plain loops or numbers that can be checked by eye."""

import dataclasses
import math

import numpy as np
import pytest
from detection_cases import instances, loop_iou, random_case
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.errors import ResultsError
from pse_jax.evaluation import calibration, measure, precision, ranking, tide
from pse_jax.evaluation.coco import evaluate_coco

tied = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40
)


@given(tied)
def test_grouped_spearman_is_scipys(rows):
    group, scores, ious = np.array(rows, np.int64).T
    got = ranking.grouped_spearman(group, scores / 6, ious / 6, 5)
    for index in range(5):
        a, b = scores[group == index], ious[group == index]
        if len(set(a)) < 2 or len(set(b)) < 2:
            assert math.isnan(got[index])
        else:
            assert got[index] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


@given(tied, st.sampled_from([4, 30, 1 << 21]))
def test_inversions_are_the_double_loop(rows, cells):
    group, scores, ious = np.array(rows, np.int64).T
    category = group % 2
    expected = np.zeros((2, 2), int)
    for i in range(len(rows)):
        for j in range(len(rows)):
            if group[i] == group[j] and ious[i] > ious[j]:
                expected[0, category[i]] += 1
                expected[1, category[i]] += scores[i] < scores[j]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "CELLS", cells)  # the same in blocks of any size
        pairs, inverted = ranking.inversions(group, category, scores / 6, ious / 6, 2)
    assert [pairs.tolist(), inverted.tolist()] == expected.tolist()


def test_the_worst_pair_of_each_image():
    best = np.array([4, 4, 4, 8, 8, -1])
    image = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.2, 0.9, 0.5, 0.3, 0.4, 0.99])
    ious = np.array([0.9, 0.3, 0.8, 0.7, 0.6, 0.0])
    assert ranking.worst_pairs(best, image, scores, ious, 5) == [(0, 1), (3, 4)]
    assert ranking.worst_pairs(best, image, scores, ious, 1) == [(0, 1)]
    assert ranking.worst_pairs(best, image, ious, ious, 5) == []


def test_laece_by_hand():
    category = np.array([0, 0, 0, 1])
    scores = np.array([0.90, 0.91, 0.10, 1.00])
    ious = np.array([0.50, 0.71, 0.30, 1.00])
    # class 0: a bin of two, |0.905 - 0.605| x 2/3, and a bin of one, |0.1 - 0.3| x 1/3
    got = calibration.laece(category, scores, ious, 3)
    np.testing.assert_allclose(got, [0.2 + 0.2 / 3, 0.0, np.nan])
    np.testing.assert_allclose(calibration.laace(category, scores, ious, 3), [0.8 / 3, 0.0, np.nan])
    bins = calibration.reliability(scores, ious)
    assert bins["count"].sum() == 4 and bins["count"][[2, 22, 24]].tolist() == [1, 2, 1]
    assert bins["quality"][22] == pytest.approx(0.605)
    assert math.isnan(bins["score"][0])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
def test_laece_is_at_most_laace(points):
    scores, ious = np.array(points).T
    category = np.zeros(len(points), np.int64)
    laece = calibration.laece(category, scores, ious, 1)[0]
    assert -1e-12 <= laece <= calibration.laace(category, scores, ious, 1)[0] + 1e-12
    assert calibration.laece(category, ious, ious, 1)[0] == 0


def test_calibration_needs_probabilities():
    with pytest.raises(ResultsError, match=r"-2 to 3.*probabilities.*sigmoid"):
        calibration.reliability(np.array([-2.0, 3.0]), np.array([0.1, 0.2]))


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30))
def test_best_threshold_by_brute_force(rows):
    scores = np.array([row[0] for row in rows]) / 8
    correct = np.array([row[1] for row in rows])
    objects = int(correct.sum()) + 2
    best = calibration.best_threshold(scores, correct, objects)
    if not correct.any():
        assert best.f1 == 0 and math.isnan(best.threshold)
        return
    values = {}
    for threshold in scores.tolist():
        kept = scores >= threshold
        right = int((kept & correct).sum())
        precision_, recall = right / int(kept.sum()), right / objects
        both = precision_ + recall
        values[threshold] = (2 * precision_ * recall / both if both else 0.0, precision_, recall)
    assert best.f1 == pytest.approx(max(value[0] for value in values.values()))
    f1, precision_, recall = values[best.threshold]
    assert (best.f1, best.precision, best.recall) == pytest.approx((f1, precision_, recall))


def test_a_class_without_objects_has_no_threshold():
    best = calibration.best_threshold(np.array([0.5]), np.array([False]), 0)
    assert all(math.isnan(value) for value in dataclasses.astuple(best))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cap", [100, 2])
def test_fast_ap_is_pycocotools(seed, cap, monkeypatch):
    truth, found = random_case(seed)
    if cap < 100:  # more than 100 detections of one class and image
        many = [np.concatenate([column] * 60) for column in (found.image, found.category)]
        rng = np.random.default_rng(seed)
        boxes = np.concatenate([found.boxes_xywh] * 60)
        boxes = boxes + rng.integers(0, 3, boxes.shape)
        found = dataclasses.replace(
            found, image=many[0], category=many[1], boxes_xywh=boxes,
            scores=rng.integers(1, 50, len(boxes)) / 50,
        )  # fmt: skip
    examined = measure.examine(truth, found)
    got = precision.coco_ap(truth, found, examined.pairs)
    expected = evaluate_coco(truth, found, areas=False)
    for name, value in got.items():
        assert value == pytest.approx(expected[name], abs=1e-12)


def test_every_kind_of_error():
    def row(label, box, **more):
        return {"image_id": 10, "category_id": label, "bbox": box, **more}

    truth = load_ground_truth(
        instances(
            [
                row(7, [0, 0, 10, 10], area=100),
                row(7, [100, 0, 10, 10], area=100),
                row(14, [200, 0, 10, 10], area=100),
                row(14, [300, 0, 10, 10], area=100),  # missed
                row(7, [400, 0, 50, 50], area=2500, iscrowd=1),
            ]
        )
    )
    found = load_results(
        [
            row(7, [0, 0, 10, 10], score=0.9),  # correct
            row(7, [0, 0, 10, 9], score=0.8),  # duplicate
            row(7, [100, 0, 10, 4], score=0.7),  # localisation, IoU 0.4
            row(7, [200, 0, 10, 10], score=0.6),  # class
            row(14, [0, 0, 10, 4], score=0.5),  # both: class and IoU 0.4
            row(14, [0, 200, 10, 10], score=0.4),  # background
            row(7, [410, 10, 10, 10], score=0.3),  # on a crowd
        ],
        truth,
    )
    examined = measure.examine(truth, found)
    kinds = [tide.KINDS[index] for index in examined.breakdown.kind]
    assert kinds == ["correct", "duplicate", "localisation", "class", "both", "background",
                     "ignored"]  # fmt: skip
    assert examined.breakdown.missed.tolist() == [False, False, False, True, False]
    gains = tide.delta_ap50(truth, found, examined.breakdown)
    # class 1 has 2 objects, AP50 51/101; class 2 has 2, AP50 0.
    assert evaluate_coco(truth, found)["AP50"] == pytest.approx(51 / 202)
    # fixed: right, wrong, right; 51 recall levels at 1 and 50 at 2/3
    assert gains["localisation"] == pytest.approx((51 + 50 * 2 / 3) / 202 - 51 / 202)
    # the class error becomes class 2's first detection
    assert gains["class"] == pytest.approx(51 / 202)
    assert gains["duplicate"] == gains["both"] == gains["background"] == gains["missed"] == 0


@pytest.mark.parametrize("seed", range(12))
def test_errors_are_the_loop(seed):
    truth, found = random_case(seed)
    examined = measure.examine(truth, found)
    for d, kind in enumerate(examined.breakdown.kind):
        own, other = 0.0, 0.0
        for g in range(len(truth.image)):
            if truth.image[g] == found.image[d] and not truth.crowd[g]:
                value = loop_iou(found.boxes_xywh[d], truth.boxes_xywh[g])
                if truth.category[g] == found.category[d]:
                    own = max(own, value)
                else:
                    other = max(other, value)
        if examined.matches.correct[d]:
            expected = "correct"
        elif examined.matches.ignored[d]:
            expected = "ignored"
        elif 0.1 <= own < 0.5:
            expected = "localisation"
        elif other >= 0.5:
            expected = "class"
        elif own >= 0.5:
            expected = "duplicate"
        else:
            expected = "background" if max(own, other) < 0.1 else "both"
        assert tide.KINDS[kind] == expected
    counts = examined.breakdown.counts()
    assert sum(counts.values()) == len(found)
    assert all(gain >= 0 for gain in tide.delta_ap50(truth, found, examined.breakdown).values())


def test_nothing_to_analyse_is_said():
    truth = load_ground_truth(instances([]))
    with pytest.raises(ResultsError, match=r"no detections.*score threshold"):
        measure.examine(truth, load_results([], truth))
    row = {"image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 0.5}
    with pytest.raises(ResultsError, match="no objects"):
        measure.examine(truth, load_results([row], truth))
