"""Odd images: `check` names what cannot be used, and batches leave out exactly that."""

import dataclasses
import io
import json
import os
import socket
import threading
import warnings

import numpy as np
import pytest
from coco_files import good, write
from odd import images
from PIL import Image

from pse_jax.config import Config, DataConfig
from pse_jax.data import coco
from pse_jax.data.pipeline import Row, batches, load_row
from pse_jax.data.plan import EvalPlan, buckets_for
from pse_jax.data.transforms import pixels_of
from pse_jax.detector import prepare
from pse_jax.errors import DataError, ImageError, ResultsError
from pse_jax.report.checked import check
from pse_jax.report.dataset import lines
from pse_jax.report.pictures import check_images, draw_example

DATA = DataConfig(short_side=64, long_side=96, threads=2)


class Memory:
    """Images that are files in memory."""

    def __init__(self, files):
        self.files = files

    def read(self, key):
        return self.files[key][1]

    def name(self, key):
        return self.files[key][0]


@pytest.fixture(scope="module")
def files():
    return images.all_images()


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    rows = [
        {"id": i, "file_name": f"{i}", "height": hw[0], "width": hw[1]}
        for i, (*_, hw) in enumerate(files)
    ]
    content = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (folder / "a.json").write_text(json.dumps(content))
    whole = coco.load(folder / "a.json", folder, require_images=False)
    return dataclasses.replace(whole, images=Memory(files))


@pytest.mark.filterwarnings("ignore")
def test_check_says_of_each_whether_it_can_be_used(files, dataset):
    assert len(files) >= 305
    unusable = check(dataset, Config(data=DATA), training=False).unusable
    wrong = [
        (name, unusable.get(i))
        for i, (name, _, usable, _) in enumerate(files)
        if usable is not None and usable == (i in unusable)
    ]
    assert not wrong
    for i, why in unusable.items():
        assert why.startswith(files[i][0]) and "\n" not in why.strip() and len(why) < 600


@pytest.mark.filterwarnings("ignore")
def test_batches_leave_out_what_check_names_and_nothing_else(files, dataset):
    unusable = check(dataset, Config(data=DATA), training=False).unusable
    plan = EvalPlan(buckets_for(dataset.sizes_hw, DATA), 16)
    seen = {}
    for batch in batches(dataset, plan, rows=slice(0, 16), threads=2, prefetch=2):
        for k, i in enumerate(batch["index"].tolist()):
            if batch["image_valid"][k] or batch["unreadable"][k]:
                seen[i] = bool(batch["unreadable"][k])
    assert seen == {i: i in unusable for i in range(len(files))}


def test_pixels_are_those_that_were_saved(files):
    """Of all formats and modes without loss, the grey photo comes back."""
    expected = np.asarray(images.PHOTO).astype(float)
    compared = 0
    for name, content, usable, hw in files:
        form, _, mode = name.partition(" ")
        if usable and form in ("PNG", "BMP", "TIFF", "PPM", "TGA") and mode in ("L", "RGB", "RGBA"):
            found = images.decode(content, hw)
            assert np.abs(found - expected).max() <= 1, name
            compared += 1
    assert compared >= 12


def special(folder):
    """Things in a folder that are no files; opening some of them waits for ever."""
    os.mkfifo(folder / "fifo.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "to_fifo.jpg").symlink_to(folder / "fifo.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "gone.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "itself").symlink_to(folder)
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(3 << 30)
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket must be short
    server.bind("socket.jpg")
    os.chdir(here)
    server.close()
    return {
        "fifo.jpg": "it is a FIFO (named pipe), not a regular file",
        "folder.jpg": "it is a folder, not a regular file",
        "device.jpg": "it is a device, not a regular file",
        "to_fifo.jpg": "it is a FIFO (named pipe), not a regular file",
        "dangling.jpg": "No such file or directory",
        "loop.jpg": "Too many levels of symbolic links",
        "socket.jpg": "it is a socket, not a regular file",
        "sparse.jpg": "has 3,221,225,472 bytes; no image is so large",
        "missing.jpg": "No such file or directory",
        "itself/itself/fifo.jpg": "it is a FIFO (named pipe), not a regular file",
        "../outside.jpg": "leads out of",
        "sub/../../images/a.jpg": "leads out of",
        "/etc/passwd": "leads out of",
        "x" * 300: "File name too long",
        "a.jpg/b.jpg": "Not a directory",
    }


def listed(names):
    content = good()
    content["images"] += [
        {"id": 100 + i, "file_name": name, "width": 64, "height": 48}
        for i, name in enumerate(names)
    ]
    return content


def test_whatever_is_no_regular_file_is_named_and_nothing_waits(tmp_path):
    file, folder = write(tmp_path)
    reasons = special(folder)
    file.write_text(json.dumps(listed(reasons)))
    done = []

    def look():
        dataset = coco.load(file, folder, require_images=False)
        checked = check(dataset, Config(data=DATA), training=False)
        done.append((checked, list(lines("data", checked, Config(data=DATA)))))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(120)
    assert done, "it waits for a FIFO or a device"
    checked, report = done[0]
    said = {int(checked.dataset.image_ids[i]): why for i, why in checked.unusable.items()}
    assert len(said) == len(reasons)
    for i, reason in enumerate(reasons.values()):
        assert reason in said[100 + i]
        assert any(line.strip().startswith(f"id {100 + i}: ") for line in report)


@pytest.mark.parametrize("name", ["fifo.jpg", "folder.jpg", "socket.jpg"])
def test_training_refuses_at_the_start_what_is_no_file(tmp_path, name):
    file, folder = write(tmp_path)
    special(folder)
    file.write_text(json.dumps(listed([name])))
    with pytest.raises(DataError, match=f"lacks 1 of the 4 images .*{name}.*not a regular file"):
        coco.load(file, folder)


def test_names_that_lead_out_of_the_folder_are_refused_unless_allowed(tmp_path):
    file, folder = write(tmp_path)
    (tmp_path / "outside.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")  # somebody put it there
    inside = ["sub/../a.jpg", "./c.jpg", "link.jpg", "..a.jpg"]
    (folder / "..a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    file.write_text(json.dumps(listed(inside)))
    dataset = coco.load(file, folder)
    assert all(dataset.pixels_of(i).shape == (48, 64, 3) for i in range(3, 7))
    out = [
        "../outside.jpg",
        str(tmp_path / "outside.jpg"),
        "sub/../../outside.jpg",
        "..\\outside.jpg",
    ]
    for name in out:
        file.write_text(json.dumps(listed([name])))
        with pytest.raises(DataError, match=r"1 of the 4 file names .* lead out of .*image id 100"):
            coco.load(file, folder)
        assert coco.load(file, folder, outside=True).pixels_of(3).shape == (48, 64, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_by_one_rule(form):
    """What was drawn upright is seen upright; a size that fits one reading decides."""
    expected = np.asarray(images.PHOTO).astype(int)
    square = images.PHOTO.resize((48, 48))
    for orientation in range(1, 9):
        content = images.oriented(form, orientation)
        assert np.abs(images.decode(content, (48, 64), "apply") - expected).max() <= 8
        lying = orientation >= 5
        assert not lying or np.abs(images.decode(content, (48, 64), "ignore") - expected).max() <= 8
        if lying and form != "TIFF":  # annotated as stored
            for exif in ("apply", "ignore"):
                assert images.decode(content, (64, 48), exif).shape == (64, 48, 3)
        upright = images.oriented(form, orientation, square)
        found = images.decode(upright, (48, 48), "apply")
        assert np.abs(found - np.asarray(square).astype(int)).max() <= 8
        stored = images.decode(upright, (48, 48), "ignore")
        if orientation > 1 and form != "TIFF":  # Pillow turns TIFF itself
            assert np.abs(stored.astype(int) - np.asarray(square)).max() > 50


@pytest.mark.parametrize("size", [(80, 60), (60, 60)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_that_were_drawn_on_the_upright_photo_land_there(tmp_path, orientation, size):
    x0, y0, x1, y1 = 7, 5, 31, 22
    photo = Image.new("RGB", size)
    photo.paste("#ff2020", (x0, y0, x1, y1))
    (tmp_path / "a.jpg").write_bytes(images.oriented("JPEG", orientation, photo))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}],
        "categories": [{"id": 1, "name": "red"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = coco.load(tmp_path / "a.json", tmp_path)
    buckets = buckets_for(dataset.sizes_hw, dataclasses.replace(DATA, short_side=60))
    row = load_row(Row(0, buckets.shapes_hw[0], False, True), dataset, buckets, 8)
    red = row["image"][..., 0] > 127
    ys, xs = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    seen = [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]
    np.testing.assert_allclose(row["boxes"][0], seen, atol=1.0)  # px: of JPEG's edges


def test_an_image_without_orientation_is_the_same_under_every_rule(files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content, usable, hw in files:
            if usable:
                a, b = (images.decode(content, hw, exif) for exif in ("apply", "ignore"))
                assert (a == b).all(), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_examples_of_a_report_and_a_detector_turn_photos_by_the_same_rule(tmp_path, orientation):
    photo = Image.new("RGB", (80, 60))
    photo.paste("#20ff20", (10, 10, 30, 40))
    (tmp_path / "a.jpg").write_bytes(images.oriented("JPEG", orientation, photo))
    upright = np.asarray(photo).astype(int)
    assert np.abs(pixels_of(tmp_path / "a.jpg") - upright).mean() < 5
    assert np.abs(pixels_of(Image.open(tmp_path / "a.jpg"), "apply") - upright).mean() < 5
    stored = pixels_of(tmp_path / "a.jpg", "ignore")
    assert stored.shape[:2] == ((80, 60) if orientation >= 5 else (60, 80))
    assert prepare(tmp_path / "a.jpg", Config(data=DATA)).original_hw == (60, 80)
    side = {"iou": 0.5, "score": 0.5, "box_xyxy": [10.0, 10, 30, 40]}
    example = {"file_name": "a.jpg", "object_xyxy": [10.0, 10, 30, 40], "better_box": side,
               "better_score": side}  # fmt: skip
    made = draw_example(tmp_path, example, "apply")
    drawn = np.asarray(Image.open(io.BytesIO(made)).convert("RGB")).astype(int)
    middle = drawn[drawn.shape[0] // 2, drawn.shape[1] // 2]
    assert middle[1] > 180 and middle[0] < 90


def test_analyze_reads_no_image_outside_its_folder_unless_allowed(tmp_path):
    content = good()
    content["images"][1]["file_name"] = "../a.jpg"
    file, folder = write(tmp_path, content)
    (folder / "a.jpg").rename(tmp_path / "a.jpg")
    truth = coco.load_ground_truth(file)
    found = coco.load_results(
        [{"image_id": 10, "category_id": 7, "bbox": [8, 4, 40, 20], "score": 0.9}], truth
    )
    with pytest.raises(ResultsError, match=r"1 file names lead out .*--outside-images"):
        check_images(folder, truth, found)
    check_images(folder, truth, found, outside=True)
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ResultsError, match="1 of 1 images are missing"):
        check_images(folder, truth, found, outside=True)


def test_a_file_of_another_size_is_not_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="is 64x48 px, but its annotations say 8000x8000"):
        images.decode(images.saved(images.PHOTO, "PNG"), (8000, 8000))
