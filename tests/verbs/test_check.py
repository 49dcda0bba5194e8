"""python -m pse_jax check: what is found in a data set before hours are spent on it."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from coco_files import good, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_targets import loop_assign

from pse_jax.config import Config, DataConfig, ModelConfig, TargetConfig, differences
from pse_jax.data import sources
from pse_jax.errors import DataError, UserError
from pse_jax.points import locations
from pse_jax.report.assigned import Assigner
from pse_jax.training.loop import open_data, train
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
        "per image 1.0 on average, at most 2 (image id 20); a batch has room for 8",
        "box sizes small 3 (100.0%) under 32² px",
        "image sizes 64x48 2 (66.7%)",
        "batch shapes 1088x800 2 (66.7%) 2.0% padding",
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
    assert code == 1 and "data: there are no boxes to train on or to evaluate against" in out


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


def own_config(tmp_path, val="val.json"):
    """A configuration file, and what `check` is called with."""
    file = tmp_path / "experiment.py"
    file.write_text(CONFIG.format(val=val))
    return ["--config", str(file), f"--config.data.root={tmp_path}"]


def test_settings_are_proposed_and_written_as_a_configuration(tmp_path, capsys):
    write(tmp_path)
    write(tmp_path, name="val.json")
    argv, new = own_config(tmp_path), tmp_path / "new" / "mine.py"
    assert check.main([*argv, "--config.seed=7", f"--suggest-config={new}"]) == 0
    out = capsys.readouterr().out
    assert f"proposed for the 2 images to train on, building on {tmp_path}/experiment.py:" in out
    assert "  data.long_side=128\n" in out and "40 px are wanted from scratch" in out
    assert "  optimizer.learning_rate=0.00125\n" in out and "(as it is)" in out
    pasted = out.split("train on it with\n")[1].split("\n\n")[0].replace("\\\n", " ")
    argv_pasted = shlex.split(pasted)[4:]
    assert shlex.split(pasted)[:4] == ["python", "-m", "pse_jax", "train"]
    from_flags, from_file = config_of(argv_pasted), config_of(["--config", str(new)])
    assert differences(from_flags, from_file) == {"name": ("experiment", "mine")}
    assert (from_file.seed, from_file.data.root) == (7, str(tmp_path))
    assert from_file.data.long_side == 128 and from_file.data.batch_size == 2
    train_set, _, plan, _ = open_data(from_file)
    assert len(train_set) == 2 and plan.largest.shapes_hw == ((128, 128),)
    assert check.main(["--config", str(new)]) == 0
    out = capsys.readouterr().out  # it proposes itself
    assert out.count("(as it is)") == len(re.findall(r"^  \w+\.\w+=", out, re.M))


def test_a_file_that_is_there_is_never_overwritten(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("precious")
    for name, why in (("mine.py", "it is there already"), ("mine", "name it NAME.py")):
        with pytest.raises(UserError, match=why):
            check.main(["--config", "shapes_pse", f"--suggest-config={tmp_path / name}"])
    assert file.read_text() == "precious"


def test_nothing_is_proposed_for_data_that_cannot_be_used(tmp_path, capsys):
    write(tmp_path, grid_of_boxes(lambda *box: list(box)))
    write(tmp_path, name="val.json")
    new = tmp_path / "mine.py"
    assert check.main([*own_config(tmp_path), f"--suggest-config={new}"]) == 1
    out = capsys.readouterr().out
    assert "proposed for" not in out and f"{new} was not written" in out and not new.exists()


@pytest.mark.slow
def test_what_is_proposed_can_be_trained(tmp_path):
    """Compiles for images of 128 px: pytest -n 0 -m slow tests/verbs/test_check.py (a minute)."""
    base, new = Path(__file__).parents[1] / "tiny_run.py", tmp_path / "mine.py"
    cache = [f"--config.data.cache_dir={tmp_path}", "--config.train.compilation_cache=false"]
    assert check.main(["--config", str(base), *cache, f"--suggest-config={new}"]) == 0
    few = ["steps=2", "milestones=()", "warmup_steps=0"]
    config = config_of(["--config", str(new), *(f"--config.optimizer.{one}" for one in few)])
    assert config.data.long_side == 128 and config.optimizer.steps == 2
    numbers = train(config, tmp_path / "run")
    assert numbers is not None and set(numbers) >= {"AP", "AP50"}


def names_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def split(folder, *more):
    return check.main(
        ["--config", "coco_pse", f"--config.data.root={folder}", "--split=0.4", *more]
    )


@pytest.mark.parametrize("name", ["instances.json", "Train.json", "my_train_set.json"])
def test_a_split_is_made_beside_one_annotation_file(tmp_path, capsys, name):
    file, _ = write(tmp_path, name=name)
    before = names_in(tmp_path)
    assert split(tmp_path) == 0
    out = capsys.readouterr().out
    made = {k: json.loads(v) for k, v in names_in(tmp_path).items() if k not in before}
    assert names_in(tmp_path).items() >= before.items() and len(made) == 2
    whole = json.loads(file.read_text())
    parts = [made[name] for name in sorted(made)]
    for key in ("images", "annotations"):
        rows = [row for part in parts for row in part[key]]
        assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in whole[key])
        assert all(row in whole[key] for row in rows)
    for part in parts:
        ids = {row["id"] for row in part["images"]}
        assert {row["image_id"] for row in part["annotations"]} <= ids
        assert part["categories"] == whole["categories"]
    # They are found by themselves, and by the flags that were printed.
    found = [sources.open_split(DataConfig(root=str(tmp_path)), s) for s in ("train", "val")]
    assert sorted(len(part) for part in found) == [1, 2]
    flags = shlex.split(out.split("train on it with\n")[1].replace("\\\n", " "))[4:]
    named = [sources.open_split(config_of(flags).data, s) for s in ("train", "val")]
    assert [part.image_ids.tolist() for part in named] == [p.image_ids.tolist() for p in found]
    with pytest.raises(DataError, match=r"has a val split, .*_?split_val.json; leave out --split"):
        split(tmp_path)


def test_an_image_and_its_copy_are_on_one_side_of_a_split(tmp_path):
    content = good()
    _, images = write(tmp_path)
    for k in range(8):  # ids 40 to 47; each is a copy of a.jpg with a name of its own
        Image.open(images / "a.jpg").save(images / f"copy{k}.bmp")
        row = {"id": 40 + k, "file_name": f"copy{k}.bmp", "width": 64, "height": 48}
        content["images"].append(row)
    Image.open(images / "a.jpg").save(images / "a.bmp")
    content["images"][1]["file_name"] = "a.bmp"
    write(tmp_path, content)
    for seed in range(2):
        assert split(tmp_path, f"--seed={seed}") == 0
        parts = [json.loads((tmp_path / f"instances_split_{s}.json").read_text()) for s in SPLIT]
        ids = [{row["id"] for row in part["images"]} for part in parts]
        copies = {10, *range(40, 48)}
        assert copies <= ids[0] or copies <= ids[1]
        for s in SPLIT:
            (tmp_path / f"instances_split_{s}.json").unlink()


SPLIT = ("train", "val")


def test_a_split_that_is_not_wanted_or_cannot_be(tmp_path):
    write(tmp_path, name="instances_train.json")
    names = [f"--config.data.{s}_annotations=instances_{s}.json" for s in SPLIT]
    names += [f"--config.data.{s}_images=images" for s in SPLIT]
    assert split(tmp_path, *names) == 0
    assert split(tmp_path, *names) == 0  # the same once more
    with pytest.raises(DataError, match=r"split_train.json is there already, from another split"):
        split(tmp_path, *names, "--seed=1")
    write(tmp_path, name="instances_val.json")
    with pytest.raises(DataError, match=r"has a val split, instances_val.json; leave out --split"):
        split(tmp_path, *names)
    with pytest.raises(DataError, match=r"give --config.data.root=FOLDER"):
        check.main(["--config", "coco_pse", "--split=0.2"])
    with pytest.raises(UserError, match=r"1.5 is not from 0 up to 1"):
        check.main(["--config", "coco_pse", "--split=1.5"])
    with pytest.raises(UserError, match="--split need --config"):
        check.main(["--annotations", "a", "--images", "b", "--split=0.2"])


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
    assert "1 image has the pixels of another (ids 30 = 10)" in out
    said = "1 box that repeats another of its category (IoU over 0.99), in 1 image: "
    assert f"{said}kite [8, 4, 40, 20] of image id 10" in out


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
    assert Image.open(out / "data_samples.png").size == (640 + 480 + 3 * 10, 660)
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
    boxes = [(x, y, x + 16, y + 20) for x in range(0, 49, 12) for y in (0, 7, 14, 20, 24, 28)]
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
    assert code == 1 and "reach over their images if read as [x, y, width, height]" in out

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
        case "corners":
            content = grid_of_boxes(lambda *box: list(box))
        case "centres":
            content = grid_of_boxes(
                lambda x, y, right, bottom: [(x + right) / 2, (y + bottom) / 2, right - x, 20]
            )
        case "swapped axes":
            content = grid_of_boxes(lambda x, y, right, _: [y, x, 20, right - x])
        case "shares":
            content = grid_of_boxes(lambda x, y, right, _: [x / 64, y / 48, 0.1, 0.1])
    return content, flags


CASES = (
    "nothing wrong, no annotations, only crowds, only boxes without area, only boxes outside, "
    "no images, unknown category, unknown image, repeated id, missing image, image outside, NaN, "
    "huge batches, a huge jitter, a huge cache, huge evaluation batches, no category name, "
    "corners, centres, swapped axes, shares"
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
