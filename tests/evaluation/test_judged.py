"""The images that a run's page shows, and the thresholds on it, against values made by hand."""

import math

import numpy as np
import pytest

from pse_jax.categories import Categories
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.judged import ImageScores, choose_images, image_scores, judge

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0]  # xywh


@pytest.fixture
def judged():
    """Image 0: two objects, one found. 1: one, found twice. 2: a crowd. 3: nothing. 4: one, none.

    Image 5 has no object and one detection.
    """
    truth = GroundTruth(
        source="truth",
        categories=Categories((1, 2), ("cat", "dog")),
        image_ids=np.arange(6),
        image_names=tuple(f"{i}.jpg" for i in range(6)),
        image=np.array([0, 0, 1, 2, 4]),
        category=np.array([0, 1, 0, 0, 1]),
        boxes_xywh=np.array([BOX, FAR, BOX, BOX, BOX]),
        area=np.full(5, 100.0),
        crowd=np.array([False, False, False, True, False]),
    )
    found = Results(
        "found",
        image=np.array([0, 0, 1, 1, 2, 5]),
        category=np.array([0, 1, 0, 0, 0, 0]),
        boxes_xywh=np.array([BOX, [50.0, 50.0, 10.0, 4.0], BOX, BOX, BOX, BOX]),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.3]),
    )
    return judge(7, {"AP": 0.5}, truth, found)


def test_thresholds_are_those_of_best_f1(judged):
    # By score: 0.9 right, 0.8 wrong (IoU 0.4), 0.7 right, 0.6 a second box, 0.3 on nothing;
    # 0.95 lies on the crowd and does not count. Objects: 4. From 0.7 on: 2 * 2 / (3 + 4).
    assert judged.overall.threshold == 0.7
    assert judged.overall.f1 == pytest.approx(4 / 7)
    cat, dog = judged.per_class
    assert (cat.threshold, cat.f1) == (0.7, 1.0)
    assert math.isnan(dog.threshold) and dog.f1 == 0.0
    assert judged.objects.tolist() == [2, 2]
    np.testing.assert_allclose(judged.ious, [1, 0.4, 1, 1, 0, 0])


def test_f1_of_every_image(judged):
    scores = image_scores(judged, 0.65)
    assert scores.correct.tolist() == [1, 1, 0, 0, 0, 0]
    assert scores.wrong.tolist() == [1, 0, 0, 0, 0, 0]
    assert scores.missed.tolist() == [1, 0, 0, 0, 1, 0]
    np.testing.assert_allclose(scores.f1, [2 / 4, 1, np.nan, np.nan, 0, np.nan])
    lower = image_scores(judged, 0.0)
    assert lower.wrong.tolist() == [1, 1, 0, 0, 0, 1] and lower.f1[5] == 0
    np.testing.assert_allclose(lower.f1[1], 2 / 3)


def test_without_a_right_detection_everything_is_shown(judged):
    found = judged.found
    wrong = Results("found", found.image[:1], np.array([1]), found.boxes_xywh[:1], np.array([0.4]))
    nothing = judge(7, {}, judged.truth, wrong)
    assert math.isnan(nothing.overall.threshold) and nothing.threshold == 0.0
    none = np.zeros(0, int)
    empty = judge(7, {}, judged.truth, Results("found", none, none, np.zeros((0, 4)), np.zeros(0)))
    assert image_scores(empty, empty.threshold).missed.tolist() == [2, 1, 0, 0, 1, 0]


def scores(f1, correct, errors):
    errors = np.array(errors)
    return ImageScores(np.array(f1, float), np.array(correct), errors, np.zeros_like(errors))


def test_best_typical_and_worst():
    #                 0    1    2    3    4       5    6    7    8    9
    f1 = [1.0, 0.5, 0.0, 0.0, np.nan, 1.0, 0.6, 0.7, 0.8, 0.4]
    correct = [1, 3, 0, 0, 0, 4, 3, 3, 3, 3]
    errors = [0, 3, 2, 9, 0, 0, 2, 2, 2, 4]
    chosen = choose_images(scores(f1, correct, errors), 2)
    assert {kind: images.tolist() for kind, images in chosen.items()} == {
        "best": [5, 0],  # more objects first
        "typical": [6, 1],  # of 9 1 6 7 8, nearly the middle
        "worst": [3, 2],  # more errors first
    }


@pytest.mark.parametrize("images", range(12))
def test_no_image_is_shown_twice(images):
    f1 = np.linspace(0, 1, images)
    chosen = choose_images(scores(f1, np.ones(images, int), np.ones(images, int)), 4)
    shown = np.concatenate(list(chosen.values()))
    assert len(set(shown.tolist())) == len(shown) == min(images, 12) // 3 * 3 or images < 3
    assert len(shown) == images or images >= 3
