"""python -m pse_jax draw-targets: dots where training has its positives."""

import re

import numpy as np
import pytest
from coco_files import good, write
from PIL import Image, ImageColor
from test_targets import loop_assign

from pse_jax.__main__ import main
from pse_jax.categories import Categories
from pse_jax.config import Config, TargetConfig
from pse_jax.data import transforms
from pse_jax.drawing import colour_of
from pse_jax.points import locations
from pse_jax.report.targets import SIZE, Draw

CATEGORIES = Categories((3, 7), ("dog", "kite"))
BOXES = np.array([[8, 4, 48, 24], [5, 33, 11, 37], [30, 10, 62, 46]], np.float32)
LABELS = np.array([1, 0, 1], np.int32)
BOUNDS = TargetConfig(size_bounds=(16, 32, 64, 128))


def row(boxes=BOXES, labels=LABELS):
    """An image of 64x48 px on a canvas of 64x64."""
    pixels = np.full((48, 64, 3), 250, np.uint8)
    return {
        "image": transforms.pad(pixels, (64, 64)),
        "size_hw": np.array([48, 64], np.int32),
        **transforms.pad_boxes(boxes, labels, 8),
    }


@pytest.mark.parametrize("by", ["object", "level"])
def test_dots_stand_where_training_has_its_positives(by):
    taught = Draw(Config(targets=BOUNDS), CATEGORIES, by)(row(), 5)
    points, levels = locations(64, 64, "center")
    names, valid = np.arange(3), np.ones(3, bool)  # a box's label is its number
    positive, label, _ = loop_assign(points, levels, BOXES, names, valid, BOUNDS)
    positive, label = np.array(positive, bool), np.array(label)
    assert set(label[positive]) == {0, 2}
    assert taught.boxes == 3 and taught.lost == ("dog [5, 33, 11, 37]",)
    counts = np.bincount(levels[positive], minlength=5)
    assert taught.locations == tuple(counts)
    told = ", ".join(f"P{level} {count}" for level, count in enumerate(counts, 3) if count)
    told = f"3 objects, {counts.sum()} locations ({told}); without any: dog [5, 33, 11, 37]"
    assert taught.told() == told

    assert taught.picture.width == SIZE and taught.picture.height > SIZE * 48 / 64
    scale = SIZE / 64
    drawn = np.asarray(taught.picture)
    for (x, y), level, box in zip(
        points[positive].tolist(), levels[positive].tolist(), label[positive].tolist(), strict=True
    ):
        colour = ImageColor.getrgb(colour_of(level if by == "level" else box))
        covered = [  # by a smaller dot of a lower level
            other
            for other, its in zip(points[positive], levels[positive], strict=True)
            if its < level and np.hypot(*(other - (x, y))) * scale < 30
        ]
        if not covered and y < 48:
            assert tuple(drawn[round(y * scale), round(x * scale)]) == colour, (x, y, level, box)


def test_an_image_without_objects():
    taught = Draw(Config(), CATEGORIES)(row(BOXES[:0], LABELS[:0]), 5)
    assert taught.told() == "0 objects, 0 locations (none)"


CONFIG = """
from pse_jax.config import Config, DataConfig, OptimizerConfig, TargetConfig

def get_config():
    names = dict(train_annotations="instances.json", val_annotations="instances.json")
    data = DataConfig(train_images="images", val_images="images", threads=1, batch_size=2, **names)
    data.short_side, data.long_side, data.flip = 48, 64, {flip}
    return Config(
        data=data,
        targets=TargetConfig(size_bounds=(16, 32, 64, 128)),
        optimizer=OptimizerConfig(steps=9, milestones=()),
    )
"""


def test_the_verb_draws_the_first_images_of_training(tmp_path, capsys):
    content = good()
    content["annotations"].append(
        {"id": 9, "image_id": 10, "category_id": 3, "bbox": [5, 33, 6, 4]}  # between locations
    )
    write(tmp_path, content)
    file, out = tmp_path / "experiment.py", tmp_path / "pictures"
    said = {}
    for flip in (0, 1):
        file.write_text(CONFIG.format(flip=flip))
        argv = ["draw-targets", "--config", str(file), f"--config.data.root={tmp_path}"]
        assert main([*argv, "--out", str(out), "--count=5"]) == 0
        said[flip] = capsys.readouterr().out
        names = re.findall(r"(step\d_image\d+\.png): \d objects", said[flip])
        assert {name.split("_")[1] for name in names} == {"image10.png", "image20.png"}
        assert all(max(Image.open(out / name).size) >= SIZE for name in names)
    assert "2 objects" in said[0] and "without any: dog [5, 33, 11, 37]" in said[0]
    assert "without any: dog [53, 33, 59, 37]" in said[1]  # after the flip, of 64 px


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "give --config, or the --workdir of a run"),
        (["--config=coco_pse", "--count=0"], "it must be at least 1"),
        (["--config=coco_pse", "--step=90001"], "it must be 1 to 90000"),
    ],
)
def test_arguments_that_do_not_fit(argv, message, tmp_path, capsys):
    assert main(["draw-targets", "--out", str(tmp_path), *argv]) == 2
    assert message in capsys.readouterr().err
