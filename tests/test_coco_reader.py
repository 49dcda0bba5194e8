"""A data set in COCO's format: what is read, corrected or left out, and refused, in which words."""

import codecs
import json
import logging

import numpy as np
import pytest
from coco_files import good, write

from pse_jax.categories import Categories
from pse_jax.data import coco
from pse_jax.errors import DataError


def test_images_and_categories_are_in_order_of_their_ids(tmp_path):
    dataset = coco.load(*write(tmp_path))
    assert dataset.categories == Categories((3, 7), ("dog", "kite"))
    assert dataset.image_ids.tolist() == [10, 20, 30]
    assert dataset.image_names == ("a.jpg", "sub/b.jpg", "c.jpg")
    assert dataset.sizes_hw.tolist() == [[48, 64], [64, 48], [48, 64]]
    boxes, labels = dataset.boxes_of(1)
    assert boxes.tolist() == [[0, 0, 16, 32], [20.5, 30, 40.5, 60]]
    assert labels.tolist() == [0, 1]
    assert (dataset.crowd.sum(), dataset.problems, dataset.capacity) == (1, {}, 8)
    assert dataset.bytes_of(1) == (tmp_path / "images" / "sub" / "b.jpg").read_bytes()
    assert dataset.name_of(1) == str(tmp_path / "images" / "sub" / "b.jpg")


def test_the_ground_truth_keeps_every_annotation_as_the_file_has_it(tmp_path):
    content = good()
    content["annotations"][0]["bbox"] = [-5, 4, 40, 0]  # nothing to learn from, but an object
    truth = coco.load(*write(tmp_path, content))
    assert truth.image.tolist() == [0, 1, 1, 1] and truth.category.tolist() == [1, 0, 1, 0]
    assert truth.boxes_xywh.tolist() == [[-5, 4, 40, 0], [0, 0, 16, 32], [20.5, 30, 20, 30],
                                         [0, 0, 48, 64]]  # fmt: skip
    assert truth.area.tolist() == [800, 512, 600, 3072]  # the box's where the file gives none
    assert truth.crowd.tolist() == [False, False, False, True]
    assert len(truth.labels) == 2
    alone = coco.load_ground_truth(content)
    for name in ("image_ids", "image", "category", "boxes_xywh", "area", "crowd"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(truth, name))
    assert alone.categories == truth.categories


def test_images_without_boxes_can_be_left_out(tmp_path):
    dataset = coco.load(*write(tmp_path)).without_empty()
    assert dataset.image_ids.tolist() == [10, 20]
    assert dataset.boxes_of(1)[1].tolist() == [0, 1]
    assert dataset.image.tolist() == [0, 1, 1, 1] and dataset.crowd.sum() == 1
    nothing = dataset.select(np.zeros(0, int))
    assert len(nothing) == 0 and nothing.boxes_xyxy.shape == (0, 4)


def test_what_may_be_there_or_not(tmp_path):
    content = good()
    content["info"] = {"year": 2024}
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 2, 3, 4, 5, 6]]
        annotation.pop("id")
    content["images"][0]["width"] = 64.0
    assert len(coco.load(*write(tmp_path, content)).labels) == 3


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    file, images = write(tmp_path)
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    assert len(coco.load(file, images)) == 3


@pytest.mark.parametrize(
    "bbox, kept, problem",
    [
        ([8, 4, 0, 20], None, "box without area, left out"),
        ([100, 4, 10, 10], None, "box outside its image, left out"),
        ([-20, 4, 20, 10], None, "box outside its image, left out"),
        ([20.3, 4, 1, 20], None, "box at most 1 px wide or high, left out"),
        ([8, 4.7, 40, 0.4], None, "box at most 1 px wide or high, left out"),
        ([63, 4, 40, 20], None, "box at most 1 px wide or high, left out"),  # of it, inside
        ([20.3, 4, 1.01, 20], [20.3, 4, 21.31, 24], None),
        (
            [-5, -6, 50, 100],
            [0, 0, 45, 48],
            "box more than a pixel out of its image, cut",
        ),
        ([0, 0, 64.4, 48.4], [0, 0, 64, 48], None),
    ],
)
def test_boxes_that_are_cut_or_left_out_are_counted(tmp_path, caplog, bbox, kept, problem):
    content = good()
    content["annotations"][0]["bbox"] = bbox
    file, images = write(tmp_path, content)
    with caplog.at_level(logging.WARNING):
        dataset = coco.load(file, images)
    np.testing.assert_allclose(dataset.boxes_of(0)[0], [kept] if kept else np.zeros((0, 4)), 1e-6)
    assert dataset.boxes_xywh[0].tolist() == bbox  # evaluated with it all the same
    assert len(dataset.without_empty()) == (2 if kept else 1)
    assert dataset.problems == ({problem: 1} if problem else {})
    if problem:
        assert f"{file}: 1 x {problem} (annotation 1, image 10, bbox {bbox})" in caplog.text


def test_names_of_another_system_are_understood(tmp_path):
    content = good()
    content["images"][2]["file_name"] = "sub\\b.jpg"
    dataset = coco.load(*write(tmp_path, content))
    assert dataset.bytes_of(1)
    assert dataset.problems == {"file name with backslashes, read as slashes": 1}


def test_one_file_under_two_ids_is_reported(tmp_path):
    content = good()
    content["images"][0]["file_name"] = "a.jpg"
    assert coco.load(*write(tmp_path, content)).problems == {
        "file listed under several image ids": 1
    }


def change(part, row, **values):
    """A change of one row; a value of None takes the key away."""

    def apply(content):
        content[part][row].update({k: v for k, v in values.items() if v is not None})
        for key in (k for k, v in values.items() if v is None):
            content[part][row].pop(key)

    return apply


NAN = float("nan")
BROKEN = {
    "no images": (lambda c: c.update(images=[]), "lists no images; is this the right file?"),
    "no categories": (lambda c: c.update(categories=[]), "lists no categories"),
    "part missing": (lambda c: c.pop("annotations"), "has no annotations; it needs images, ann"),
    "part null": (lambda c: c.update(images=None), "images is None; it must be a list"),
    "row": (lambda c: c["annotations"].append(5), "annotations[4] is 5, not an object {...}"),
    "image without id": (change("images", 0, id=None), "images[0] has no 'id'"),
    "text as id": (change("images", 0, id="30"), "(id '30') has an id that is not a whole"),
    "image id twice": (change("images", 0, id=10), "images[1] (id 10) has the id of images[0]"),
    "category id twice": (change("categories", 0, id=3), "has the id of categories[0]"),
    "category without id": (change("categories", 1, id=None), "categories[1] has no 'id'"),
    "category without name": (change("categories", 1, name=None), "(id 3) has no 'name'"),
    "category with an empty name": (change("categories", 1, name=""), "(id 3) has name ''; give"),
    "no file name": (change("images", 1, file_name=None), "images[1] (id 10) has no 'file_name'"),
    "no width": (change("images", 1, width=None), "(id 10) has width None; it must be a whole"),
    "width as text": (change("images", 1, width="64"), "images[1] (id 10) has width '64'"),
    "no height": (change("images", 1, height=0), "(id 10) has height 0; it must be a whole"),
    "NaN as height": (change("images", 1, height=NAN), "has height nan"),
    "unknown image": (change("annotations", 2, image_id=99),
                      "annotations[2] (id 3) has image_id 99; image_id must be one of 10, 20, 30"),
    "unknown category": (change("annotations", 2, category_id=4), "must be one of 3, 7: correct"),
    "category as text": (change("annotations", 2, category_id="7"), "has category_id '7'"),
    "category as list": (change("annotations", 2, category_id=[7]), "has category_id [7]"),
    "category as truth value": (change("annotations", 2, category_id=True), "category_id True"),
    "iscrowd as text": (change("annotations", 2, iscrowd="0"), "(id 3) has iscrowd '0'"),
    "no bbox": (change("annotations", 2, bbox=None), "annotations[2] (id 3) has no 'bbox'"),
    "three": (change("annotations", 2, bbox=[1, 2, 3]), "has bbox [1, 2, 3]; a bbox is [x, y, wid"),
    "NaN": (change("annotations", 2, bbox=[1, NAN, 3, 4]), "has bbox [1, nan, 3, 4]"),
    "infinite": (change("annotations", 2, bbox=[1, 2, 3, -2 * NAN, ]), "finite numbers"),
    "null": (change("annotations", 2, bbox=[1, 2, 3, False]), "has bbox [1, 2, 3, False]"),
    "text": (change("annotations", 2, bbox=["1", 2, 3, 4]), "has bbox ['1', 2, 3, 4]"),
    "negative": (change("annotations", 2, bbox=[9, 2, -3, 4]), "(are these two corners, xyxy?)"),
    "area": (change("annotations", 2, area=NAN), "(id 3) has area nan; it must be a finite number"),
    "area as null": (lambda c: c["annotations"][2].update(area=None), "(id 3) has area None"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_invalid_value_is_refused_with_its_place_and_value(tmp_path, name):
    damage, message = BROKEN[name]
    content = good()
    damage(content)
    file, images = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        coco.load(file, images)
    assert str(file) in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (json.dumps(good())[:-30], "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[]", "is a list, as detections are; it needs images"),
        ("3", "is 3; it needs images"),
    ],
)
def test_a_file_that_is_no_annotation_file(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        coco.load(*write(tmp_path, text))


def test_a_missing_annotation_file_shows_the_ways_to_provide_one(tmp_path):
    with pytest.raises(DataError, match=r"no annotations at .*\n.*\n.*--config\.data\.root"):
        coco.load(tmp_path / "none.json", tmp_path)


def test_missing_images(tmp_path):
    file, images = write(tmp_path)
    with pytest.raises(DataError, match=r"no image folder at .*gone"):
        coco.load(file, tmp_path / "gone")
    (images / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 3 images .*: a.jpg \(image id 10\); copy"):
        coco.load(file, images)
    (images / "a.JPG").touch()
    with pytest.raises(DataError, match=r"but .*a\.JPG is there: the names must agree"):
        coco.load(file, images)


def test_a_folder_too_many_in_the_names(tmp_path):
    content = good()
    content["images"][1]["file_name"] = "train2017/a.jpg"
    with pytest.raises(DataError, match=r"but .*a\.jpg is there: take the folders off"):
        coco.load(*write(tmp_path, content))
