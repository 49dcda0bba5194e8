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
from pse_jax.report.assigned import Assigner
from pse_jax.training.loop import open_data
from pse_jax.verbs import check
from pse_jax.verbs import flags as flags_of


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
        "3 dog 1 33.3% 1 ████████████",
        "7 kite 2 66.7% 2 ████████████████████████",
    ):
        assert line in lines


def test_every_broken_image_is_listed_with_its_remedy(tmp_path, capsys):
    content = good()
    content["images"][0]["height"] = 64
    content["images"].append({"id": 40, "file_name": "d.png", "width": 64, "height": 48})
    file, images = write(tmp_path, content)
    Image.fromarray(np.full((48, 64), -1, np.float32)).save(images / "d.png", "TIFF")
    (images / "a.jpg").write_bytes(b"")
    whole = (images / "sub/b.jpg").read_bytes()
    (images / "sub/b.jpg").write_bytes(whole[: len(whole) // 2])
    code, out = run(file, images, capsys)
    assert code == 1 and "the data cannot be used" in out
    assert f"id 10: {images / 'a.jpg'} is empty (0 bytes)" in out
    assert f"id 20: {images / 'sub/b.jpg'} cannot be decoded: " in out
    assert f"id 30: {images / 'c.jpg'} is 64x48 px, but its annotations say 64x64" in out
    assert f"id 40: {images / 'd.png'} cannot be decoded: its values (mode F) run from" in out


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
    assert code == 1 and "data: there is no box to learn from or to be judged by" in out


CONFIG = """
from pse_jax.config import Config, DataConfig, OptimizerConfig

def get_config():
    names = dict(train_annotations="instances.json", val_annotations="{val}")
    data = DataConfig(train_images="images", val_images="images", threads=1, **names)
    return Config(data=data, optimizer=OptimizerConfig(steps=9, milestones=()))
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
    return Assigner(HW, Config(model=model, targets=targets)).counts


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
    points_xy, levels = locations(*HW, grid)
    positive, label, _ = loop_assign(points_xy, levels, boxes, names, valid, config)
    expected = np.zeros((len(boxes), 5), int)
    for name, level in zip(
        np.array(label)[np.array(positive, bool)], levels[positive], strict=True
    ):
        expected[name, level] += 1
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
    count = Assigner((64, 64), Config(targets=config)).counts
    assert count(boxes).tolist() == [[0] * 5, [0] * 5, [64, 0, 0, 0, 0]]
    assert count(boxes[:1]).tolist() == [[0] * 5]
    assert count(boxes[1:2]).tolist() == [[64, 0, 0, 0, 0]]


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


def test_repeated_pictures_and_boxes_are_named(tmp_path, capsys):
    content = good()
    file, images = write(tmp_path, content)
    Image.open(images / "a.jpg").save(images / "c.bmp")  # the same pixels in another file
    content["images"][0]["file_name"] = "c.bmp"
    content["annotations"].append(content["annotations"][0] | {"id": 9})
    write(tmp_path, content)
    code, out = run(file, images, capsys)
    assert code == 0
    assert "1 images have the pixels of another (ids 30 = 10)" in out
    assert "1 annotations repeat another, category and box, in 1 images (ids 10)" in out


def test_objects_are_counted_by_the_levels_that_answer_for_them(tmp_path, capsys):
    """By hand, at the size of the image, with bounds of 16 and 32 px."""
    content = good()
    content["annotations"] = [
        {"id": n, "image_id": 10, "category_id": 7, "bbox": box}
        for n, box in enumerate(([2, 2, 5, 5], [16, 8, 40, 30]))
    ]
    more = ("short_side=48", "long_side=64")
    flags = [f"--config.data.{value}" for value in more]
    bounds = "--config.targets.size_bounds=(16,32,64,128)"
    code, out = run(*write(tmp_path, content), capsys, *flags, bounds)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    # Locations of stride 8 at 4, 12, ...: one in the small box. The large one spans x 16..56 and
    # y 8..38; its largest distance is at least 20, so P3 (up to 16 px) never answers for it. P4, at
    # 8, 24, ...: (24, 24) and (40, 24) with distances 32 and 24. P5, at 16, 48: (48, 16), 32.
    assert code == 0
    assert "pyramid level P3 (stride 8) 1 (50.0%) objects, 1.0 locations each" in lines
    assert "P4 (stride 16) 1 (50.0%) objects, 2.0 locations each" in lines
    assert "P5 (stride 32) 1 (50.0%) objects, 1.0 locations each" in lines
    assert "P6 (stride 64) 0 objects" in lines


def test_pictures_of_the_data(tmp_path, capsys):
    content = good()
    content["annotations"].append(
        {"id": 9, "image_id": 10, "category_id": 3, "bbox": [9, 9, 2, 2]}  # between locations
    )
    sizes = ("--config.data.short_side=48", "--config.data.long_side=64")
    out = tmp_path / "pictures"
    code, text = run(*write(tmp_path, content), capsys, *sizes, "--out", str(out))
    assert code == 0 and "data_samples.png: 2 images at random" in text
    assert Image.open(out / "data_samples.png").size == (2 * 650 + 10, 660)
    assert Image.open(out / "data_no_location.png").width == 650 + 10


def test_validation_images_that_are_trained_on_are_counted(tmp_path, capsys):
    write(tmp_path)
    content = good()
    content["images"], content["annotations"] = content["images"][1:2], content["annotations"][:1]
    write(tmp_path, content, name="val.json")
    file = tmp_path / "experiment.py"
    file.write_text(CONFIG.format(val="val.json"))
    assert check.main(["--config", str(file), f"--config.data.root={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "1 (100.0%) images are also in the training data (ids 10 = 10)" in out


def grid_of_boxes(as_written):
    """30 boxes in the image of 64x48 px, written by a function of x0, y0, x1, y1."""
    content = good()
    boxes = [(x, y, x + 6 + x % 5, y + 8) for x in range(0, 50, 10) for y in range(0, 36, 6)]
    content["annotations"] = [
        {"id": n, "image_id": 10, "category_id": 7, "bbox": as_written(*box)}
        for n, box in enumerate(boxes)
    ]
    return content


def test_corners_and_shares_in_place_of_widths_are_recognised(tmp_path, capsys):
    right = grid_of_boxes(lambda x0, y0, x1, y1: [x0, y0, x1 - x0, y1 - y0])
    assert run(*write(tmp_path, right), capsys)[0] == 0

    corners = grid_of_boxes(lambda *box: list(box))
    code, out = run(*write(tmp_path, corners), capsys)
    assert code == 1 and "leave their images if read as [x, y, width, height]" in out

    shares = grid_of_boxes(lambda x0, y0, x1, y1: [x0 / 64, y0 / 48, (x1 - x0) / 64, 8 / 48])
    code, out = run(*write(tmp_path, shares), capsys)
    assert code == 1 and "they seem to be normalised" in out


def broken(name):
    """A correct data set with one thing wrong, and flags."""
    content, flags = good(), []
    images, annotations = content["images"], content["annotations"]
    match name:
        case "nothing wrong":
            pass
        case "no annotations":
            annotations.clear()
        case "only crowds":
            annotations[:] = annotations[3:]
        case "only boxes without area":
            for row in annotations:
                row["bbox"][2] = 0
        case "only boxes outside":
            for row in annotations:
                row["bbox"][0] = 999
        case "no images":
            images.clear()
        case "unknown category":
            annotations[0]["category_id"] = 99
        case "unknown image":
            annotations[0]["image_id"] = 99
        case "repeated id":
            images[0]["id"] = 10
        case "missing image":
            images[0]["file_name"] = "missing.jpg"
        case "image outside":
            images[0]["file_name"] = "../a.jpg"
        case "NaN":
            annotations[0]["bbox"][0] = float("nan")
        case "huge batches":
            images[1] |= {"width": 2**24, "height": 2**24}
            flags = ["--config.data.long_side=100000000", "--config.data.short_side=10000000"]
        case "a huge jitter":  # the batches of short_side would fit
            images[1] |= {"width": 2**20, "height": 2**20}
            sizes = {"short_side": 64, "long_side": 10**6, "jitter": f"(64,{10**6})"}
            flags = [f"--config.data.{field}={value}" for field, value in sizes.items()]
        case "a huge cache":
            images[1] |= {"width": 2**24, "height": 2**24}
            flags = ["--config.data.cache_gb=1e9"]
        case "huge evaluation batches":
            flags = ["--config.inference.batch_size=100000000"]
        case "no category name":
            content["categories"][0]["name"] = ""
    return content, flags


CASES = (
    "nothing wrong, no annotations, only crowds, only boxes without area, only boxes outside, "
    "no images, unknown category, unknown image, repeated id, missing image, image outside, NaN, "
    "huge batches, a huge jitter, a huge cache, huge evaluation batches, no category name"
).split(", ")


@pytest.mark.parametrize(
    "split, name", [*(("train", name) for name in CASES), *(("val", name) for name in CASES[1::3])]
)
def test_what_training_refuses_is_not_accepted(split, name, tmp_path):
    content, flags = broken(name)
    names = {"train": "instances.json", "val": "val.json"}
    for part, file in names.items():
        write(tmp_path, content if part == split else good(), name=file)
    file = tmp_path / "experiment.py"
    file.write_text(CONFIG.format(val="val.json"))
    argv = ["--config", str(file), f"--config.data.root={tmp_path}", *flags]

    def refused_by(command):
        try:
            return bool(command())
        except UserError:
            return True

    by_training = refused_by(lambda: open_data(config_of(argv)) is None)
    by_check = refused_by(lambda: check.main(argv))
    assert by_check >= by_training
    if name == "nothing wrong":
        assert not by_check
    elif split == "train":
        assert by_check and (by_training or name == "huge evaluation batches")


def config_of(argv):
    parser = flags_of.parser("test", None)
    flags_of.add_config(parser)
    return flags_of.config_of(flags_of.parse(parser, argv))


def test_what_is_no_annotation_file_is_explained_also_without_images(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"YOLO.* `python -m pse_jax convert "):
        check.main(["--annotations", str(tmp_path)])
