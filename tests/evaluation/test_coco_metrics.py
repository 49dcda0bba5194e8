"""COCO's numbers are pycocotools', correlations SciPy's, and oracles do what they say."""

import contextlib
import dataclasses
import io
import math

import numpy as np
import pytest
from detection_cases import instances, loop_iou, random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation import coco as coco_metrics
from pse_jax.evaluation.arrays import Results
from pse_jax.evaluation.coco import METRICS, by_hotcoco, by_pycocotools, evaluate_coco
from pse_jax.evaluation.correlation import correlations
from pse_jax.evaluation.matching import best_iou, match, overlaps
from pse_jax.evaluation.oracles import with_iou_scores, with_transported_scores


def reference(truth, found) -> COCOeval:
    """pycocotools as its users call it, with ids from 1."""
    image, category = truth.image_ids[truth.image], np.array(truth.categories.ids)[truth.category]
    annotations = [
        {"id": n + 1, "image_id": int(image[n]), "category_id": int(category[n]),
         "bbox": truth.boxes_xywh[n].tolist(), "area": float(truth.area[n]),
         "iscrowd": int(truth.crowd[n])}
        for n in range(len(image))
    ]  # fmt: skip
    rows = [
        {"image_id": int(truth.image_ids[found.image[n]]),
         "category_id": truth.categories.ids[found.category[n]],
         "bbox": found.boxes_xywh[n].tolist(), "score": float(found.scores[n])}
        for n in range(len(found))
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": int(i)} for i in truth.image_ids],
            "categories": [{"id": int(i)} for i in truth.categories.ids],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.fixture(params=["pycocotools", "hotcoco"])
def backend(request, monkeypatch):
    """Each program that may compute the numbers."""
    if request.param == "hotcoco":
        pytest.importorskip("hotcoco")
    else:
        monkeypatch.setattr(coco_metrics, "hotcoco", None)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_of_pycocotools(seed):
    truth, found = random_case(seed)
    expected = reference(truth, found)
    numbers = evaluate_coco(truth, found)
    got = np.array([numbers[name] for name in METRICS])
    np.testing.assert_array_equal(np.nan_to_num(got, nan=-1), expected.stats)
    for index, value in enumerate(numbers["per_class"].values()):
        part = expected.eval["precision"][:, :, index, 0, 2]
        assert value == part[part > -1].mean()


@pytest.mark.usefixtures("backend")
def test_an_annotation_whose_id_is_0_counts(tmp_path):
    content = instances([{"image_id": 10, "category_id": 7, "bbox": [0, 0, 40, 40], "area": 1600}])
    assert content["annotations"][0]["id"] == 0
    truth = load_ground_truth(content)
    rows = [{"image_id": 10, "category_id": 7, "bbox": [0, 0, 40, 20], "score": 0.5}]
    numbers = evaluate_coco(truth, load_results(rows, truth))
    assert numbers["AP"] == pytest.approx(0.1)  # IoU 0.5: right at one of ten thresholds
    assert numbers["AP50"] == pytest.approx(1.0)
    assert numbers["per_class"]["class 1"] == pytest.approx(0.1)
    assert math.isnan(numbers["per_class"]["class 2"])


@pytest.mark.usefixtures("backend")
def test_no_detections_score_nothing():
    content = instances([{"image_id": 10, "category_id": 7, "bbox": [0, 0, 40, 40], "area": 1600}])
    truth = load_ground_truth(content)
    numbers = evaluate_coco(truth, load_results([], truth))
    assert numbers["AP"] == numbers["AR100"] == 0
    assert math.isnan(numbers["APL"])


@pytest.mark.usefixtures("backend")
def test_a_part_of_the_work():
    truth, found = random_case(1)
    whole, part = evaluate_coco(truth, found), evaluate_coco(truth, found, areas=False)
    assert part["AP"] == whole["AP"] and part["AR100"] == whole["AR100"]
    assert math.isnan(part["APS"]) and math.isnan(part["ARL"])


CASES = {
    "with equal scores": {"images": 12, "classes": 4},
    "with distinct scores": {"images": 12, "classes": 4, "ties": False},
    "of one image": {"images": 1, "classes": 1},
}


@pytest.mark.parametrize("areas", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_hotcoco_gives_the_same_bits(name, areas):
    pytest.importorskip("hotcoco")
    for seed in range(15):
        truth, found = random_case(seed, **CASES[name])
        ours = by_hotcoco(truth, found, areas=areas), by_pycocotools(truth, found, areas=areas)
        for fast, record in zip(*ours, strict=True):
            assert fast.shape == record.shape
            np.testing.assert_array_equal(fast, record)


def test_hotcoco_takes_any_ids_and_over_100_detections():
    pytest.importorskip("hotcoco")
    rng = np.random.default_rng(0)
    truth, found = random_case(3, images=4)
    truth = dataclasses.replace(truth, image_ids=np.array([-5, 0, 7, 2**40]))
    n = 700  # more than COCO counts, on each of the images
    found = Results(
        "many",
        rng.integers(0, 4, n),
        rng.integers(0, 3, n),
        np.repeat(found.boxes_xywh, 1 + n // len(found), axis=0)[:n] + rng.random((n, 4)),
        rng.integers(1, 20, n) / 20,
    )
    for fast, record in zip(by_hotcoco(truth, found), by_pycocotools(truth, found), strict=True):
        np.testing.assert_array_equal(fast, record)


@pytest.mark.parametrize("seed", range(20))
def test_best_iou_is_the_loop(seed):
    truth, found = random_case(seed)
    for index, value in enumerate(best_iou(truth, found)):
        own = [
            loop_iou(found.boxes_xywh[index], truth.boxes_xywh[g])
            for g in range(len(truth.image))
            if truth.image[g] == found.image[index]
            and truth.category[g] == found.category[index]
            and not truth.crowd[g]
        ]
        assert value == max(own, default=0.0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("level", [0, 5])
def test_matches_are_those_of_pycocotools(seed, level):
    truth, found = random_case(seed)
    pairs = overlaps(truth, found, same_class=seed % 2 == 0)
    matches = match(truth, found, pairs, threshold=0.5 + 0.05 * level)
    seen = 0
    for image in reference(truth, found).evalImgs:
        if image and image["aRng"] == [0, 1e10]:
            rows = zip(image["dtIds"], image["dtMatches"][level], image["dtIgnore"][level],
                       strict=True)  # fmt: skip
            for detection, target, ignored in rows:
                assert matches.object[detection - 1] == target - 1
                assert matches.ignored[detection - 1] == bool(ignored)
                seen += 1
    assert seen == len(found)
    assert not (matches.correct & matches.wrong).any()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=60))
def test_correlations_are_scipys(points):
    scores, ious = np.array(points, float).T / 20
    got = correlations(scores, ious)
    if len(set(scores)) == 1 or len(set(ious)) == 1:
        assert all(math.isnan(value) for value in got.values())
        return
    assert got["PCC"] == stats.pearsonr(scores, ious).statistic
    assert got["SCC"] == stats.spearmanr(scores, ious).statistic
    assert got["KCC"] == stats.kendalltau(scores, ious).statistic


@pytest.mark.parametrize(("scores", "ious"), [([], []), ([0.5], [0.5]), ([0.5, 0.5], [0.1, 0.2])])
@pytest.mark.filterwarnings("error")
def test_undefined_correlations_are_nan(scores, ious):
    got = correlations(np.array(scores, float), np.array(ious, float))
    assert list(got) == ["PCC", "SCC", "KCC"]
    assert all(math.isnan(value) for value in got.values())


def test_transport_by_hand():
    truth = load_ground_truth(instances([]))
    rows = [
        {"image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 1], "score": score}
        for score in (0.9, 0.2, 0.7, 0.4)
    ]
    found = load_results(rows, truth)
    ious = np.array([0.1, 0.8, 0.5, 0.5])
    moved = with_transported_scores(found, ious)
    assert moved.scores.tolist() == [0.2, 0.9, 0.7, 0.4]  # of equals, the higher score stays ahead
    assert with_iou_scores(found, ious).scores.tolist() == ious.tolist()
    assert found.scores.tolist() == [0.9, 0.2, 0.7, 0.4]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_an_oracle_is_never_below_the_plain_ap(seed):
    """With at most one box on an object, as after a perfect NMS, the order of IoU is the best."""
    rng = np.random.default_rng(seed)
    boxes, rows = [], []
    for image in (10, 20):
        for cell in range(rng.integers(1, 6)):  # objects far apart
            label = 7 * int(rng.integers(1, 3))
            x, size = 200.0 * cell, float(rng.uniform(20, 90))
            box = [x, 0.0, size, size]
            boxes.append({"image_id": image, "category_id": label, "bbox": box, "area": size**2})
            moved = [x + rng.uniform(-0.4, 0.4) * size, 0.0, size, size * rng.uniform(0.6, 1.6)]
            row = {"image_id": image, "bbox": moved, "score": float(rng.random())}
            rows.append({**row, "category_id": label if rng.random() < 0.8 else 21 - label})
        stray = {"image_id": image, "category_id": 7, "bbox": [0.0, 500.0, 30.0, 30.0]}
        rows.append({**stray, "score": float(rng.random())})
    truth = load_ground_truth(instances(boxes))
    found = load_results(rows, truth)
    ious = best_iou(truth, found)
    plain = evaluate_coco(truth, found)
    for oracle in (with_iou_scores, with_transported_scores):
        better = evaluate_coco(truth, oracle(found, ious))
        for name in ("AP", "AP50", "AP75"):
            assert better[name] >= plain[name] - 1e-12
