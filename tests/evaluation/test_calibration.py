"""LaECE0 and LaACE0 against plain loops written from the papers, and cases to check by eye."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from detection_cases import instances, loop_iou, random_case

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation import calibration, measure

EDGES = np.linspace(0, 1, 26).tolist()


def on_crowd(box, region):
    """Intersection over the area of the box."""
    width = min(box[0] + box[2], region[0] + region[2]) - max(box[0], region[0])
    height = min(box[1] + box[3], region[1] + region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / (box[2] * box[3])


def loop_qualities(truth, found):
    """{class: [(score, quality)]} of what counts, detection by detection."""
    points = {}
    for label in range(len(truth.categories)):
        every = [g for g in range(len(truth.image)) if truth.category[g] == label]
        regular = [g for g in every if not truth.crowd[g]]
        points[label] = []
        if not regular:
            continue
        for image in range(len(truth.image_ids)):
            free = [g for g in regular if truth.image[g] == image]
            crowds = [g for g in every if truth.image[g] == image and truth.crowd[g]]
            mine = [
                d
                for d in range(len(found))
                if (found.image[d], found.category[d]) == (image, label)
            ]
            for d in sorted(mine, key=lambda d: -found.scores[d])[:100]:
                box = found.boxes_xywh[d]
                ious = [loop_iou(box, truth.boxes_xywh[g]) for g in free]
                if max(ious, default=0) > 0:
                    best = max(range(len(free)), key=lambda n: (ious[n], n))
                    points[label].append((float(found.scores[d]), ious[best]))
                    free.pop(best)
                elif not any(on_crowd(box, truth.boxes_xywh[g]) > 0 for g in crowds):
                    points[label].append((float(found.scores[d]), 0.0))
    return points


def loop_errors(points):
    """(LaECE, LaACE) of one class."""
    total = 0.0
    for low, high in itertools.pairwise(EDGES):
        inside = [(s, q) for s, q in points if low < s <= high or s == low == 0]
        if inside:
            score, quality = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            total += len(inside) / len(points) * abs(score - quality)
    return total, sum(abs(s - q) for s, q in points) / len(points)


def check(truth, found):
    examined = measure.examine(truth, found)
    points = loop_qualities(truth, found)
    got = measure.calibrate(examined)
    errors = {label: loop_errors(mine) for label, mine in points.items() if mine}
    expected = np.mean(np.array(list(errors.values())), axis=0)
    np.testing.assert_allclose([got["LaECE"], got["LaACE"]], expected, atol=1e-12)
    assert got["bins"]["count"].sum() == sum(map(len, points.values()))
    per_class = [row["LaECE"] for row in measure.class_table(examined, _no_ap(truth))]
    wanted = [errors.get(label, (math.nan,))[0] for label in range(len(truth.categories))]
    np.testing.assert_allclose(per_class, wanted, atol=1e-12)
    return errors


def _no_ap(truth):
    return dict.fromkeys(truth.categories.unique_names, math.nan)


@pytest.mark.parametrize("seed", range(20))
def test_against_loops(seed):
    check(*random_case(seed, ties=seed % 2 == 0))


def test_more_than_a_hundred_detections_of_a_class_and_image():
    truth, found = random_case(4)
    rng = np.random.default_rng(0)
    many = {name: np.concatenate([getattr(found, name)] * 60) for name in ("image", "category")}
    boxes = np.concatenate([found.boxes_xywh] * 60) + rng.integers(0, 4, (60 * len(found), 4))
    more = dataclasses.replace(
        found, **many, boxes_xywh=boxes.astype(float), scores=rng.random(len(boxes))
    )
    check(truth, more)
    assert measure.calibrate(measure.examine(truth, more))["bins"]["count"].sum() < len(more)


def row(label, box, image=10, **more):
    return {"image_id": image, "category_id": label, "bbox": box, **more}


def make(boxes, results):
    truth = load_ground_truth(instances(boxes))
    return truth, load_results(results, truth)


def test_a_second_box_on_an_object_has_quality_0():
    """Also the better one, if its score is lower."""
    found = [row(7, [0, 0, 10, 8], score=0.9), row(7, [0, 0, 10, 10], score=0.6)]
    case = make([row(7, [0, 0, 10, 10])], found)
    quality = calibration.own_iou(*case)
    np.testing.assert_allclose(quality.iou, [0.8, 0.0])
    assert quality.counted.all()
    assert check(*case)[0] == pytest.approx(((0.1 + 0.6) / 2,) * 2)


def test_a_class_without_objects_is_left_out():
    found = [row(7, [0, 0, 10, 10], score=0.75), row(14, [0, 0, 10, 10], score=1.0)]
    case = make([row(7, [0, 0, 10, 10]), row(14, [0, 0, 10, 10], iscrowd=1)], found)
    assert calibration.own_iou(*case).counted.tolist() == [True, False]
    examined = measure.examine(*case)
    assert measure.calibrate(examined)["LaECE"] == pytest.approx(0.25)
    table = measure.class_table(examined, _no_ap(case[0]))
    assert math.isnan(table[1]["LaECE"])


def test_crowds_and_boxes_that_touch_nothing():
    """A free object comes before a crowd; a box that touches nothing takes no object."""
    crowd = row(7, [0, 0, 50, 50], iscrowd=1)
    found = [
        row(7, [90, 90, 5, 5], score=0.9),  # touches nothing: wrong, and takes nothing
        row(7, [40, 0, 20, 10], score=0.8),  # on the object by a quarter, and half on the crowd
        row(7, [30, 0, 10, 10], score=0.7),  # on the crowd alone
    ]
    case = make([crowd, row(7, [55, 0, 20, 10])], found)
    quality = calibration.own_iou(*case)
    np.testing.assert_allclose(quality.iou, [0, 50 / 350, 0])
    assert quality.counted.tolist() == [True, True, False]
    check(*case)


@pytest.mark.parametrize("score, number", [(0.0, 0), (0.04, 0), (0.0401, 1), (0.52, 12), (1.0, 24)])
def test_a_bin_has_its_upper_edge(score, number):
    assert calibration.bin_of(np.array([score])).tolist() == [number]


def test_the_diagram_shows_what_the_number_is_made_of():
    """Of one class, LaECE is the mean gap between the diagram's bars and its scores."""
    truth, found = random_case(2, classes=1, ties=False)
    got = measure.calibrate(measure.examine(truth, found))
    count, score, iou = (np.nan_to_num(got["bins"][key]) for key in ("count", "score", "iou"))
    assert got["LaECE"] == pytest.approx((count * abs(score - iou)).sum() / count.sum())


def loop_f1(truth, found, labels, threshold):
    """F1 at IoU 0.5 of the detections of some classes that have at least this score."""
    right = wrong = 0
    taken = set()
    for d in sorted(range(len(found)), key=lambda d: -found.scores[d]):
        if found.scores[d] < threshold or found.category[d] not in labels:
            continue
        mine = [
            g
            for g in range(len(truth.image))
            if (truth.image[g], truth.category[g]) == (found.image[d], found.category[d])
        ]
        box = found.boxes_xywh[d]
        ious = [
            (loop_iou(box, truth.boxes_xywh[g]), g)
            for g in mine
            if not truth.crowd[g] and g not in taken
        ]
        best, g = max(ious, default=(0.0, -1))
        if best >= 0.5:
            right += 1
            taken.add(g)
        elif all(on_crowd(box, truth.boxes_xywh[g]) < 0.5 for g in mine if truth.crowd[g]):
            wrong += 1
    objects = sum(
        c in labels and not crowd for c, crowd in zip(truth.category, truth.crowd, strict=True)
    )
    return 2 * right / (right + wrong + objects) if objects and right else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_best_thresholds_by_trying_all(seed):
    truth, found = random_case(seed)
    best = calibration.best_thresholds(truth, found)
    groups = {"overall": range(3)} | {f"class {c + 1}": [c] for c in range(3)}
    tried = {"overall": best["overall"], **best["per_class"]}
    assert list(tried) == list(groups)
    for name, labels in groups.items():
        f1 = {float(t): loop_f1(truth, found, labels, t) for t in np.unique(found.scores)}
        highest = max(f1.values(), default=0.0)
        if not highest:
            assert math.isnan(tried[name])
            continue
        expected = max(t for t, value in f1.items() if value >= highest - 1e-12)
        assert tried[name] == expected
