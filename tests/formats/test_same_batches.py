"""The same photos as Pascal VOC, YOLO and Roboflow's COCO give the same batches.

On real photos, 40 s: PSE_JAX_BCCD=FOLDER pytest -n 0 -m slow tests/formats, where FOLDER is BCCD
(github.com/Shenggan/BCCD_Dataset, its folder BCCD) as it is.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from formats.folders import NAMES, photos, photos_of_voc, write_roboflow, write_voc, write_yolo

from pse_jax.config import DataConfig
from pse_jax.data import sources
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, choose_buckets
from pse_jax.training.loop import train
from pse_jax.verbs import convert
from tests import tiny_run

WRITERS = {
    "voc": write_voc,
    "yolo": write_yolo,
    "yolo, as Roboflow's": lambda folder, them: write_yolo(folder, them, kind_first=False),
    "yolo, by its folders": lambda folder, them: write_yolo(folder, them, yaml=False),
    "roboflow": write_roboflow,
}


def converted(folder, them, writer, *more):
    """The root of the same photos, written in one layout and converted."""
    source = writer(folder / "source", them)
    assert convert.main([str(source), str(folder / "out"), *more]) == 0
    return folder / "out"


def training_batches(root, steps=6, size=3, short=64, long=96):
    dataset = sources.open_train(DataConfig(root=str(root)))
    plan = TrainPlan(choose_buckets(dataset.sizes_hw, short, long, 2), size, 1, 0.5, steps)
    rows = slice(0, size)
    return dataset, list(batches(dataset, plan, rows=rows, threads=2, prefetch=2))


def assert_same_training(one, other, ids=True):
    (a, left), (b, right) = one, other
    assert a.categories.names == b.categories.names
    assert len(left) == len(right) > 0
    for x, y in zip(left, right, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)
        if ids:
            np.testing.assert_array_equal(a.image_ids[x["index"]], b.image_ids[y["index"]])


def test_three_formats_one_training(tmp_path):
    them = photos()
    runs = {
        kind: training_batches(converted(tmp_path / kind[-8:], them, writer, "--no-check"))
        for kind, writer in WRITERS.items()
    }
    first = runs.pop("voc")
    boxes = {
        tuple(box): NAMES[label]
        for i in range(len(first[0]))
        for box, label in zip(*(a.tolist() for a in first[0].boxes_of(i)), strict=True)
    }
    assert boxes == {
        tuple(map(float, box)): name
        for photo in them
        if photo.split == "train"
        for name, box in photo.objects
    }
    for other in runs.values():
        assert_same_training(first, other)
    straight = training_batches(write_roboflow(tmp_path / "straight", them))
    assert straight[0].image_ids.tolist() == [0, 1, 2, 3, 4]  # Roboflow's own
    assert_same_training(first, straight, ids=False)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_other_splits(tmp_path, split):
    them = photos()
    truths = []
    for kind in ("voc", "yolo", "roboflow"):
        root = converted(tmp_path / kind, them, WRITERS[kind], "--no-check")
        content = json.loads((root / f"annotations/instances_{split}.json").read_text())
        truths.append(
            (
                [(row["id"], row["width"], row["height"]) for row in content["images"]],
                [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]],
                [(c["id"], c["name"]) for c in content["categories"]],
            )
        )
        first = (root / split / content["images"][0]["file_name"]).read_bytes()
        assert first == next(photo.content for photo in them if photo.split == split)
    assert truths[0] == truths[1] == truths[2]
    ids = [i for i, _, _ in truths[0][0]]
    assert ids == list(range(6, 9) if split == "val" else range(9, 11))  # after train's five


@pytest.mark.slow
def test_bccd(tmp_path, capsys):
    if "PSE_JAX_BCCD" not in os.environ:
        pytest.skip("PSE_JAX_BCCD does not name the folder")
    bccd = Path(os.environ["PSE_JAX_BCCD"])
    them = photos_of_voc(bccd)
    root = tmp_path / "voc"
    assert convert.main([str(bccd), str(root)]) == 0
    assert "the data can be used" in capsys.readouterr().out
    sizes = {"steps": 12, "size": 8, "short": 240, "long": 320}
    first = training_batches(root, **sizes)
    assert len(first[0]) == 205 and first[0].categories.names == NAMES
    for kind in ("yolo", "roboflow"):
        other = converted(tmp_path / kind, them, WRITERS[kind])
        assert "the data can be used" in capsys.readouterr().out
        assert_same_training(first, training_batches(other, **sizes))
    config = tiny_run.config(tmp_path)
    config.data.source, config.data.root = "coco", str(root)
    config.optimizer.steps, config.optimizer.milestones = 2, (1,)
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
