"""Reading detections: what is valid is packed, what is not is named with its remedy."""

import json
import math

import numpy as np
import pytest
from detection_cases import instances

from pse_jax.categories import Categories
from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.errors import DataError, ResultsError
from pse_jax.evaluation.arrays import nan_to_none, xywh_to_xyxy

BOXES = [
    {"image_id": 20, "category_id": 7, "bbox": [1, 2, 30, 40], "area": 600.5, "iscrowd": 0},
    {"image_id": 10, "category_id": 14, "bbox": [5, 6, 7, 8], "iscrowd": 1},
]
DETECTION = {"image_id": 20, "category_id": 14, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_annotations_are_packed_in_the_order_of_ids():
    truth = load_ground_truth(instances(BOXES))
    assert truth.image_ids.tolist() == [10, 20]
    assert truth.image_names == ("1.jpg", "2.jpg")
    assert truth.categories == Categories((7, 14), ("class 1", "class 2"))
    assert truth.image.tolist() == [1, 0]
    assert truth.category.tolist() == [0, 1]
    assert xywh_to_xyxy(truth.boxes_xywh).tolist() == [[1, 2, 31, 42], [5, 6, 12, 14]]
    assert truth.area.tolist() == [600.5, 56.0]  # the second from its box
    assert truth.crowd.tolist() == [False, True]


def test_detections_keep_the_order_of_the_file(tmp_path):
    truth = load_ground_truth(instances(BOXES))
    path = tmp_path / "results.json"
    path.write_text(json.dumps([DETECTION, {**DETECTION, "image_id": 10, "score": 2}]))
    found = load_results(path, truth)
    assert len(found) == 2
    assert found.image.tolist() == [1, 0]
    assert found.category.tolist() == [1, 1]
    assert found.boxes_xywh.tolist() == [[1, 2, 3, 4]] * 2
    assert found.scores.tolist() == [0.5, 2.0]  # AP needs no probabilities
    assert found.to_coco(truth) == json.loads(path.read_text())


def test_no_detections_are_valid():
    assert len(load_results([], load_ground_truth(instances(BOXES)))) == 0


def test_equal_category_names_are_told_apart():
    content = instances(BOXES)
    for category in content["categories"]:
        category["name"] = "thing"
    names = load_ground_truth(content).categories.unique_names
    assert names == ("thing (id 7)", "thing (id 14)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 99}, ["detections[1]", "image_id 99", "10, 20"]),
        ({"image_id": "20"}, ["detections[1]", "image_id '20'", "10, 20"]),
        ({"category_id": 1}, ["detections[1]", "category_id 1", "mapped back"]),
        ({"score": math.nan}, ["detections[1]", "score nan", "finite number"]),
        ({"score": math.inf}, ["detections[1]", "score inf"]),
        ({"score": None}, ["detections[1]", "score None"]),
        ({"bbox": [1, 2, math.nan, 4]}, ["detections[1]", "bbox", "nan"]),
        ({"bbox": [1, 2, -3, 4]}, ["detections[1]", "-3", "not negative", "xyxy"]),
        ({"bbox": [1, 2, 3]}, ["detections[1]", "[1, 2, 3]", "[x, y, width, height]"]),
        ({"bbox": None}, ["detections[1]", "None"]),
    ],
)
def test_a_bad_detection_is_named(tmp_path, change, words):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([DETECTION, {**DETECTION, **change}]))
    with pytest.raises(ResultsError) as error:
        load_results(path, load_ground_truth(instances(BOXES)))
    for word in ["results.json", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_key_is_named(key):
    row = {name: value for name, value in DETECTION.items() if name != key}
    with pytest.raises(ResultsError, match=rf"detections\[1\] has no '{key}'"):
        load_results([DETECTION, row], load_ground_truth(instances(BOXES)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"annotations": []}', "holds a dict; detections are a JSON list"),
        ("[1]", r"detections\[0\] is 1, not an object"),
        ("[{", "is not valid JSON"),
    ],
)
def test_a_file_that_is_no_results_file(tmp_path, text, words):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises((ResultsError, DataError), match=words):
        load_results(path, load_ground_truth(instances(BOXES)))


def test_an_absent_file(tmp_path):
    with pytest.raises(DataError, match=r"no annotations at .*absent\.json; check the path"):
        load_ground_truth(tmp_path / "absent.json")
    with pytest.raises(DataError, match=r"no detections at .*absent\.json; check the path"):
        load_results(tmp_path / "absent.json", load_ground_truth(instances(BOXES)))


def test_nan_becomes_null():
    value = {"a": math.nan, "b": [1.5, np.float64(math.inf)], "c": np.array([np.nan, 2.0]), 3: "x"}
    assert nan_to_none(value) == {"a": None, "b": [1.5, None], "c": [None, 2.0], "3": "x"}
