"""Results in another format than COCO's are recognised, and poor but honest ones are not."""

import dataclasses

import numpy as np
import pytest

from pse_jax.categories import Categories
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.suspicion import suspect

SIZES = np.tile([480.0, 640.0], (20, 1))  # height, width


def case(seed=0, noise=0.05):
    """Twenty images with five objects of four classes each, all found, and as many stray boxes."""
    rng = np.random.default_rng(seed)
    n = 100
    boxes = np.concatenate([rng.uniform(100, 400, (n, 2)), rng.uniform(20, 80, (n, 2))], axis=1)
    image, category = np.repeat(np.arange(20), 5), rng.integers(0, 4, n)
    names = ("ant", "bee", "cat", "dog")
    truth = GroundTruth(
        "a.json", Categories((1, 2, 3, 4), names), np.arange(20), ("",) * 20, image, category,
        boxes, boxes[:, 2] * boxes[:, 3], np.zeros(n, bool),
    )  # fmt: skip
    moved = boxes + rng.normal(size=boxes.shape) * noise * np.tile(boxes[:, 2:], 2)
    stray = np.concatenate([rng.uniform(0, 500, (n, 2)), rng.uniform(20, 80, (n, 2))], axis=1)
    found = Results(
        "d.json", np.tile(image, 2), np.tile(category, 2),
        np.abs(np.concatenate([moved, stray])), rng.random(2 * n),
    )  # fmt: skip
    return truth, found


def corners(xywh):
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


FORMS = {
    "xyxy": corners,
    "cxcywh (centre and size)": lambda b: np.concatenate([b[:, :2] + b[:, 2:] / 2, b[:, 2:]], 1),
    "yxyx": lambda b: corners(b)[:, [1, 0, 3, 2]],
    "normalised xywh": lambda b: b / [640, 480, 640, 480],
    "normalised xyxy": lambda b: corners(b) / [640, 480, 640, 480],
    "normalised cxcywh (centre and size)": lambda b: (
        np.concatenate([b[:, :2] + b[:, 2:] / 2, b[:, 2:]], 1) / [640, 480, 640, 480]
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_box_formats(name):
    truth, found = case()
    assert suspect(truth, found, SIZES) is None
    wrong = dataclasses.replace(found, boxes_xywh=FORMS[name](found.boxes_xywh))
    suspicion = suspect(truth, wrong, SIZES)
    assert suspicion is not None and suspicion.explained
    assert (
        f"boxes look like {name}: only " in suspicion.text and "[x, y, width, h" in suspicion.text
    )
    # Of the 100 best-scored of all, those that are no stray boxes.
    real = int((np.argsort(-found.scores)[:100] < 100).sum())
    number = int(suspicion.text.split("read so, ")[1].split()[0])
    assert real - 1 <= number <= real + 2


def test_without_sizes_normalised_boxes_are_only_suspicious():
    truth, found = case()
    wrong = dataclasses.replace(found, boxes_xywh=found.boxes_xywh / 640)
    suspicion = suspect(truth, wrong)
    assert suspicion is not None and not suspicion.explained
    assert (
        "0 of the 100 best-scored detections overlap" in suspicion.text
        and "same images" in suspicion.text
    )


@pytest.mark.parametrize(("shift", "words"), [(1, "off by one"), (2, "mixed up")])
def test_classes(shift, words):
    truth, found = case()
    if shift == 1:  # 0, 1 and 2 as 1, 2 and 3
        keep = found.category < 3
        columns = (found.image, found.category + 1, found.boxes_xywh, found.scores)
        wrong = Results(found.source, *(column[keep] for column in columns))
    else:
        wrong = dataclasses.replace(found, category=(found.category + shift) % 4)
    suspicion = suspect(truth, wrong)
    assert suspicion is not None and suspicion.explained
    assert f"category ids look {words}" in suspicion.text and "2 (bee) lies on " in suspicion.text


@pytest.mark.parametrize("seed", range(10))
def test_a_poor_detector_is_not_accused(seed):
    truth, found = case(seed, noise=0.35)
    rng = np.random.default_rng(seed)
    guessed = dataclasses.replace(found, category=rng.integers(0, 4, len(found)))
    assert suspect(truth, found, SIZES) is None and suspect(truth, guessed, SIZES) is None


def test_a_hundred_detections_an_image_match_by_chance_but_not_the_best_of_them():
    truth, found = case()
    rng = np.random.default_rng(1)
    grid = np.tile(truth.boxes_xywh[rng.permutation(100)], (40, 1))  # boxes of other images
    columns = (rng.integers(0, 20, 4000), rng.integers(0, 4, 4000), grid, rng.random(4000) / 10)
    many = Results(
        "d.json",
        *(
            np.concatenate(pair)
            for pair in zip(
                (found.image, found.category, corners(found.boxes_xywh), found.scores + 1),
                columns,
                strict=True,
            )
        ),
    )
    suspicion = suspect(truth, many)
    assert suspicion is not None and "boxes look like xyxy" in suspicion.text
