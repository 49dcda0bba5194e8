"""python -m pse_jax check: what is found in a data set before hours are spent on it."""

import dataclasses

import numpy as np
import pytest
from coco_files import good, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_targets import loop_assign

from pse_jax.config import Config, ModelConfig, TargetConfig
from pse_jax.errors import DataError, UserError
from pse_jax.points import locations
from pse_jax.report.dataset import counter
from pse_jax.verbs import check


def run(file, images, capsys, *more):
    flags = ["--annotations", str(file), "--images", str(images), "--config.data.threads=2"]
    return check.main([*flags, *more]), capsys.readouterr().out


def test_a_good_data_set(tmp_path, capsys):
    code, out = run(*write(tmp_path), capsys)
    assert code == 0 and "the data can be used" in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "images 3",
        "without boxes 1 (33.3%)",
        "cannot be used 0",
        "boxes 3, and 1 crowd regions, not trained on",
        "per image 1.0 on average, at most 2 (image id 20); 8 slots",
        "box sizes small 3 (100.0%) under 32² px",
        "image sizes 64x48 2 (66.7%)",
        "batches of 1088x800 2 (66.7%) 2.0% padding",
        "no location 0 objects without a positive location",
        "3 dog 1 33.3%",
        "7 kite 2 66.7%",
    ):
        assert line in lines


def test_every_broken_image_is_listed_with_its_remedy(tmp_path, capsys):
    content = good()
    content["images"][0]["height"] = 64
    content["images"].append({"id": 40, "file_name": "d.png", "width": 64, "height": 48})
    file, images = write(tmp_path, content)
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(images / "d.png")
    (images / "a.jpg").write_bytes(b"")
    whole = (images / "sub/b.jpg").read_bytes()
    (images / "sub/b.jpg").write_bytes(whole[: len(whole) // 2])
    code, out = run(file, images, capsys)
    assert code == 1 and "the data cannot be used" in out
    assert f"id 10: {images / 'a.jpg'} is empty (0 bytes)" in out
    assert f"id 20: {images / 'sub/b.jpg'} cannot be decoded: " in out
    assert f"id 30: {images / 'c.jpg'} is 64x48 px, but its annotations say 64x64" in out
    assert f"id 40: {images / 'd.png'} cannot be decoded: it has more than 8 bits per" in out


def turn(image, orientation):
    """Gives a saved image an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(image).save(image, exif=exif, quality=95)


def test_images_with_an_orientation_are_counted_by_what_decides_on_it(tmp_path, capsys):
    content = good()
    content["images"][1] |= {"width": 48, "height": 64}  # annotated upright, saved lying down
    file, images = write(tmp_path, content)
    turn(images / "a.jpg", 6)
    turn(images / "sub/b.jpg", 8)  # annotated as stored
    turn(images / "c.jpg", 3)  # by half: its size tells nothing
    code, out = run(file, images, capsys)
    assert code == 0
    assert "2 with an orientation that the annotated size decides" in out
    assert "1 has an EXIF orientation that the annotated size does not confirm (id 30)" in out
    assert "they are turned upright" in out and "config.data.exif=ignore" in out
    code, out = run(file, images, capsys, "--config.data.exif=ignore")
    assert code == 0 and "left as stored" in out and "config.data.exif=apply" in out


def test_a_data_set_without_any_box(tmp_path, capsys):
    code, out = run(*write(tmp_path, good() | {"annotations": []}), capsys)
    assert code == 0 and "there is no box to learn from" in out


CONFIG = """
from pse_jax.config import Config, DataConfig

def get_config():
    names = dict(train_annotations="instances.json", val_annotations="{val}")
    return Config(data=DataConfig(train_images="images", val_images="images", threads=1, **names))
"""


def test_both_data_sets_of_a_configuration(tmp_path, capsys):
    write(tmp_path)
    write(tmp_path, name="val.json")
    file = tmp_path / "experiment.py"
    file.write_text(CONFIG.format(val="val.json"))
    flags = ["--config", str(file), f"--config.data.root={tmp_path}"]
    assert check.main(flags) == 0
    out = capsys.readouterr().out
    assert out.index("train: ") < out.index("val: ") and "1 (33.3%), left out" in out

    content = good()
    content["categories"][0]["name"] = "cat"
    write(tmp_path, content, name="val.json")
    with pytest.raises(DataError, match="id 7: cat / kite"):
        check.main(flags)

    write(tmp_path, good() | {"annotations": []})  # nothing to train on
    write(tmp_path, name="val.json")
    assert check.main(flags) == 1


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "give either --config or --annotations"),
        (["--config", "shapes_pse", "--annotations", "a"], "either --config or --annotations"),
        (["--annotations", "a.json"], "--annotations and --images go together"),
        (["--annotations", "a", "--images", "b", "--config.data.threads=0"], "threads"),
    ],
)
def test_arguments_that_do_not_fit(argv, message):
    with pytest.raises(UserError, match=message):
        check.main(argv)


HW = (160, 192)
BOUNDS = (16, 32, 64, 128)


def counter_of(center_radius, grid):
    model, targets = ModelConfig(grid=grid), TargetConfig(BOUNDS, center_radius)
    return counter(HW, Config(model=model, targets=targets))


VARIANTS = [(radius, grid) for radius in (0.0, 1.5) for grid in ("center", "torchvision")]
COUNTERS = {variant: counter_of(*variant) for variant in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_locations_are_counted_as_training_assigns_them(variant, seed, count):
    center_radius, grid = variant
    rng = np.random.default_rng(seed)
    height, width = HW
    sides = 2 ** rng.uniform(0, 8, (count, 2))
    centres = rng.uniform(0, (width, height), (count, 2))
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
    boxes = np.clip(np.round(corners * 2) / 2, 0, (width, height) * 2).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    boxes = np.concatenate([boxes, boxes[:1]])  # equal areas: the first wins

    names, valid = np.arange(len(boxes)), np.ones(len(boxes), bool)  # a box's label is its number
    config = TargetConfig(BOUNDS, center_radius)
    positive, label, _ = loop_assign(*locations(*HW, grid), boxes, names, valid, config)
    expected = np.bincount(np.array(label)[np.array(positive, bool)], minlength=len(boxes))
    np.testing.assert_array_equal(COUNTERS[variant](boxes), expected)


def test_an_object_between_the_locations_and_one_hidden_by_smaller_ones():
    boxes = np.array(
        [
            [5, 5, 11, 11],  # locations are at 4, 12, 20, ...
            [0, 0, 64, 64],
            [0, 0, 63, 64],  # smaller, and in all the same locations
        ],
        np.float32,
    )
    config = dataclasses.replace(TargetConfig(), size_bounds=(64, 128, 256, 512))
    count = counter((64, 64), Config(targets=config))
    assert count(boxes).tolist() == [0, 0, 64]
    assert count(boxes[:1]).tolist() == [0] and count(boxes[1:2]).tolist() == [64]


def test_the_report_tells_objects_between_locations_from_hidden_ones(tmp_path, capsys):
    content = good()
    boxes = ([9, 9, 2, 2], [0, 0, 48, 48], [0, 0, 47, 48])  # at the size of the image
    content["annotations"] = [
        {"id": n, "image_id": 10, "category_id": 7, "bbox": box} for n, box in enumerate(boxes)
    ]
    sizes = ("--config.data.short_side=48", "--config.data.long_side=64")
    code, out = run(*write(tmp_path, content), capsys, *sizes)
    assert code == 0 and "2 (66.7%) objects without a positive location" in out
    assert "1 of them lie between the locations of their level" in out
    assert "1 lose all their locations to smaller objects" in out
