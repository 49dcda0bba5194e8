"""Resampled measures are those of a data set in which the drawn images are really repeated."""

import dataclasses

import numpy as np
import pytest
from detection_cases import random_case
from evaluation.test_coco_metrics import reference

from pse_jax.errors import ResultsError
from pse_jax.evaluation import summary
from pse_jax.evaluation.arrays import Results
from pse_jax.evaluation.coco import evaluate_coco
from pse_jax.evaluation.comparison import METRICS, Measures, compare, draws
from pse_jax.evaluation.matching import best_iou
from pse_jax.evaluation.measure import examine
from pse_jax.evaluation.oracles import with_transported_scores
from pse_jax.evaluation.weighted import Objects


def repeated(truth, found, weights):
    """The same, with an image of new id for every time that an image counts."""
    images = np.repeat(np.arange(len(truth.image_ids)), weights)

    def rows(image):
        return np.concatenate([np.zeros(0, int), *(np.flatnonzero(image == i) for i in images)])

    def places(image):
        counts = [int((image == i).sum()) for i in images]
        return np.repeat(np.arange(len(images)), counts)

    objects, boxes = rows(truth.image), rows(found.image)
    copied = dataclasses.replace(
        truth,
        image_ids=np.arange(1, len(images) + 1),
        image_names=tuple(str(i) for i in range(len(images))),
        image=places(truth.image),
        category=truth.category[objects],
        boxes_xywh=truth.boxes_xywh[objects],
        area=truth.area[objects],
        crowd=truth.crowd[objects],
    )
    columns = (found.category[boxes], found.boxes_xywh[boxes], found.scores[boxes])
    return copied, Results(found.source, places(found.image), *columns)


def cases(count):
    """Data sets, weights of their images, and the data sets with the images repeated."""
    for seed in range(count):
        truth, found = random_case(seed, images=8, ties=False)
        weights = next(draws(len(truth.image_ids), 1, seed))
        yield truth, found, weights, *repeated(truth, found, weights)


def test_ap_is_pycocotools_on_the_resampled_images():
    for truth, found, weights, copied, copies in cases(12):
        expected = reference(copied, copies).eval["precision"][:, :, :, 0, 2]
        expected = np.where(expected < 0, np.nan, expected)
        counts = Objects(truth)(weights)
        got = Measures(examine(truth, found)).precision(weights, counts)
        np.testing.assert_allclose(got, expected.mean(axis=1), rtol=0, atol=1e-12)


def test_every_measure_is_that_of_the_repeated_images():
    for truth, found, weights, copied, copies in cases(12):
        got, classes = Measures(examine(truth, found))(weights, Objects(truth)(weights))
        whole = summary.summarise(examine(copied, copies), 0)
        # The oracle's scores are handed out once, over all images.
        oracle = with_transported_scores(found, best_iou(truth, found))
        ideal = evaluate_coco(copied, repeated(truth, oracle, weights)[1], areas=False)
        expected = [
            *(whole["coco"][name] for name in ("AP", "AP50", "AP75")),
            ideal["AP"] - whole["coco"]["AP"],
            whole["correlation"]["all"]["PCC"],
            whole["ranking"]["rho_cls"],
            whole["ranking"]["inversion_rate"],
            whole["calibration"]["LaECE"],
            whole["threshold"]["overall"]["f1"],
        ]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)
        own = [row["AP"] for row in whole["classes"]]
        np.testing.assert_allclose(classes, own, rtol=0, atol=1e-12)


def test_a_comparison():
    truth, first = random_case(3, images=30)
    second = dataclasses.replace(first, scores=np.round(first.scores**2, 3))  # the same order
    third = with_transported_scores(first, best_iou(truth, first))
    ticks = []
    found = [examine(truth, results) for results in (first, second, third)]
    both = compare(found, "abc", resamples=40, seed=5, tick=lambda: ticks.append(1))
    assert len(ticks) == 40 == both.resamples and both.images == 30
    for metric in ("AP", "AP50", "AP75", "f1", "inversion_rate"):
        same = both.metric(metric, 1, 0)
        np.testing.assert_allclose([same.value, same.low, same.high], 0, atol=1e-12)
        assert not same.differs
    better = both.metric("AP", 2, 0)
    assert 0 < better.low < better.value < better.high and better.differs
    # Of the draws, by hand.
    column = both.drawn_metrics[:, 2, 0] - both.drawn_metrics[:, 0, 0]
    limits = np.quantile(column, [0.025, 0.975])
    np.testing.assert_allclose([better.low, better.high], limits, rtol=1e-12)
    own = both.metric("AP", 2)  # mirrored at the value
    ends = np.quantile(both.drawn_metrics[:, 2, 0], [0.975, 0.025])
    np.testing.assert_allclose([own.low, own.high], 2 * own.value - ends, rtol=1e-12)
    assert both.metric("AP", 2).value == both.metrics[2, METRICS.index("AP")]
    again = compare(found[:2], "ab", resamples=40, seed=5)
    np.testing.assert_array_equal(again.drawn_metrics, both.drawn_metrics[:, :2])
    other = compare(found[:2], "ab", resamples=40, seed=6)
    assert (other.drawn_metrics[:, :, 0] != both.drawn_metrics[:, :2, 0]).any()


def test_no_resamples_and_no_probabilities():
    truth, found = random_case(1)
    logits = dataclasses.replace(found, scores=found.scores * 8 - 4)
    both = compare([examine(truth, found), examine(truth, logits)], "ab", resamples=0)
    assert np.isnan(both.metric("AP", 1, 0).low) and both.metric("AP", 1, 0).value == 0
    assert np.isnan(both.metric("LaECE", 1).value) and both.metric("LaECE", 0).value > 0


def test_other_ground_truth_is_refused():
    cases = [examine(*random_case(seed)) for seed in (1, 2)]
    with pytest.raises(ResultsError, match="other ground truth"):
        compare(cases, "ab", resamples=1)
