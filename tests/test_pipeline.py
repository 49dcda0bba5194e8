"""From the plan to batches of arrays: resumable to the bit, robust, and boxes on their pixels."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from coco_files import write
from PIL import Image

from pse_jax.config import DataConfig
from pse_jax.data import coco, transforms
from pse_jax.data.augment import Augment, Change
from pse_jax.data.pipeline import Row, batches, load_row
from pse_jax.data.plan import EvalPlan, TrainPlan, choose_buckets


@pytest.fixture
def dataset(tmp_path):
    return coco.load(*write(tmp_path))


CHANGES = DataConfig(zoom=(0.6, 1.8), flip_vertical=0.5, brightness=0.2, saturation=0.3, hue=0.1)


def run(dataset, start=0, threads=2, rows=slice(0, 4), steps=6, plan=None, augment=None):
    buckets = choose_buckets(dataset.sizes_hw, 64, 96, 2)
    plan = plan or TrainPlan(buckets, 4, 1, 0.5, steps, augment=augment)
    return list(
        batches(
            dataset,
            plan,
            rows=rows,
            threads=threads,
            prefetch=2,
            start=start,
        )
    )


def assert_same(a, b):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].dtype == right[key].dtype
            np.testing.assert_array_equal(left[key], right[key])


def test_what_a_batch_holds(dataset):
    everything = run(dataset)
    assert len(everything) == 6
    for batch in everything:
        height, width = batch["image"].shape[1:3]
        assert batch["image"].shape == (4, height, width, 3) and batch["image"].dtype == np.uint8
        assert batch["boxes"].shape == (4, 8, 4) and batch["boxes"].dtype == np.float32
        assert batch["labels"].shape == batch["box_valid"].shape == (4, 8)
        assert batch["image_valid"].all() and not batch["unreadable"].any()
        assert (batch["size_hw"] <= (height, width)).all()
        np.testing.assert_array_equal(batch["original_hw"], dataset.sizes_hw[batch["index"]])
    assert len({batch["image"].shape for batch in everything}) == 1  # fewer images than a batch
    plan = TrainPlan(choose_buckets(dataset.sizes_hw, 64, 96, 2), 1, 1, 0.5, 6)
    single = run(dataset, rows=slice(0, 1), plan=plan)
    assert len({batch["image"].shape for batch in single}) == 2


def test_a_run_that_starts_at_k_sees_the_tail_of_the_whole_run(dataset):
    whole = run(dataset)
    assert_same(run(dataset, start=4), whole[4:])
    assert run(dataset, start=6) == []


def test_random_changes_are_the_same_for_any_start_threads_and_processes(dataset):
    augment = Augment(CHANGES, seed=1)
    whole, plain = run(dataset, augment=augment), run(dataset)
    assert_same(run(dataset, start=4, threads=4, augment=augment), whole[4:])
    halves = [run(dataset, rows=slice(k, k + 2), augment=augment) for k in (0, 2)]
    assert_same(
        [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)], whole
    )
    for one, other in zip(whole, plain, strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])
        assert one["image"].shape == other["image"].shape
        assert all((a != b).any() for a, b in zip(one["image"], other["image"], strict=True))
    again = np.concatenate([batch["size_hw"] for batch in whole])
    assert len(np.unique(again, axis=0)) > 10  # shrunk by factors of their own


def test_the_number_of_threads_changes_nothing(dataset):
    assert_same(run(dataset, threads=1), run(dataset, threads=5))


def test_two_processes_load_the_two_halves_of_a_batch(dataset):
    halves = [run(dataset, rows=slice(k, k + 2)) for k in (0, 2)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)]
    assert_same(joined, run(dataset))


def test_evaluation_marks_rows_that_only_fill_up(dataset):
    buckets = choose_buckets(dataset.sizes_hw, 64, 96, 2)
    loaded = run(dataset, plan=EvalPlan(buckets, 4))
    seen = np.concatenate([batch["index"][batch["image_valid"]] for batch in loaded])
    assert sorted(seen.tolist()) == [0, 1, 2]
    for batch in loaded:
        fill = ~batch["image_valid"]
        assert fill.any() and not batch["box_valid"][fill].any() and not batch["image"][fill].any()
        assert not batch["unreadable"].any()


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no image", None])
def test_an_unreadable_image_is_left_out_and_named(dataset, caplog, content):
    path = Path(dataset.name_of(1))
    path.write_bytes(path.read_bytes()[:-400] if content is None else content)
    with caplog.at_level(logging.ERROR):
        loaded = run(dataset)
    bad = np.concatenate([batch["index"] == 1 for batch in loaded])
    for key, expected in (("unreadable", bad), ("image_valid", ~bad)):
        np.testing.assert_array_equal(np.concatenate([batch[key] for batch in loaded]), expected)
    boxes = np.concatenate([batch["box_valid"].any(axis=1) for batch in loaded])
    assert bad.any() and not boxes[bad].any()
    assert f"image id 20 is left out: {path} cannot be decoded" in caplog.text


def changed(zoom, upside_down=False):
    return Change(zoom, (0.3, 0.2), upside_down, np.eye(3, dtype=np.float32), 1.0)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("change", [None, changed(1.4), changed(0.6, True)])
@pytest.mark.parametrize(
    "size_wh, limits", [((160, 120), (240, 400)), ((120, 160), (60, 400)), ((200, 60), (90, 200))]
)
def test_boxes_land_where_their_pixels_are(tmp_path, flipped, change, size_wh, limits):
    width, height = size_wh
    x0, y0, x1, y1 = 23, 11, 77, 41
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1] = (255, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}],
        "categories": [{"id": 1, "name": "red"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = coco.load(tmp_path / "a.json", tmp_path)
    buckets = choose_buckets(dataset.sizes_hw, *limits, 1)

    row = load_row(Row(0, buckets.shapes_hw[0], flipped, True, change=change), dataset, buckets, 8)

    assert row["image"].shape == (*buckets.shapes_hw[0], 3)
    red = row["image"][..., 0] > 127
    ys, xs = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    seen = [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]
    np.testing.assert_allclose(row["boxes"][0], seen, atol=0.6)  # px: half of one, and rounding
    assert row["box_valid"].tolist() == [True] + [False] * 7


@pytest.mark.parametrize("opencv", [True, False])
def test_a_flip_mirrors_every_pixel(opencv, monkeypatch):
    if opencv:
        monkeypatch.setattr(transforms, "cv2", pytest.importorskip("cv2"))
    else:
        monkeypatch.setattr(transforms, "cv2", None)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 11, 3), np.uint8)
    mirrored, boxes = transforms.flip(pixels, np.array([[1, 2, 4, 6]], np.float32))
    np.testing.assert_array_equal(mirrored, pixels[:, ::-1])
    assert boxes.tolist() == [[7, 2, 10, 6]]
