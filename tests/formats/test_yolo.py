"""YOLO: names, paths, lines, and files that are wrong in one thing."""

import json
import shutil

import pytest
from formats.folders import NAMES, photos, put, write_yolo, yolo_txt
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pse_jax.data.formats.yolo_labels import read_labels
from pse_jax.errors import DataError
from pse_jax.verbs import convert


def run(folder, *more):
    out = folder.parent / "out"
    assert convert.main([str(folder), str(out), "--no-check", *more]) == 0
    return json.loads((out / "annotations/instances_train.json").read_text())


def test_an_image_without_labels_is_empty_and_labels_without_an_image_are_an_error(
    tmp_path, capsys
):
    folder = write_yolo(tmp_path / "yolo", photos(3, 1, 0))
    (folder / "labels/train/train1.txt").unlink()
    put(folder / "labels/train/train2.txt", "\n")
    found = run(folder)
    assert len(found["images"]) == 3 and {a["image_id"] for a in found["annotations"]} == {1}
    assert "1 x image without a label file, taken as empty" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    (folder / "images/train/train0.jpg").unlink()
    put(folder / "labels/train/classes.txt", "WBC\n")  # no label file
    with pytest.raises(DataError, match=r"1 x label file without an image \(train: train0.txt\)"):
        run(folder)
    assert len(run(folder, "--skip-broken")["images"]) == 2


@pytest.mark.parametrize(
    "lines, bbox",
    [
        ("0 0.5 0.5 0.25 0.5", [24, 12, 16, 24]),
        ("2.0 5e-1 .5 0.25 0.5", [24, 12, 16, 24]),
        ("0 0.25 0.25 0.75 0.25 0.5 0.75", [16, 12, 32, 24]),  # polygon
        ("0 1.0 0.5 0.5 0.5", [48, 12, 32, 24]),  # sticks out: the reader cuts it
        ("0 0.333333 0.5 0.111111 0.5", [17.78, 12, 7.11, 24]),
    ],
)
def test_a_line(tmp_path, lines, bbox):
    put(tmp_path / "a.txt", f"\ufeff{lines}\n\n")
    rows, remarks = read_labels(tmp_path / "a.txt", dict(enumerate(NAMES)), (48, 64))
    assert [row["bbox"] for row in rows] == [bbox] and rows[0]["iscrowd"] == 0
    assert [kind for kind, _ in remarks] == ["polygon, its surrounding box taken"] * (
        len(lines.split()) > 5
    )


@given(
    hw=st.tuples(st.integers(1, 8000), st.integers(1, 8000)),
    share=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_whole_pixels_survive_six_digits(tmp_path_factory, hw, share):
    height, width = hw
    x1, x2 = sorted(round(v * width) for v in share[:2])
    y1, y2 = sorted(round(v * height) for v in share[2:])
    values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
    file = tmp_path_factory.mktemp("yolo") / "a.txt"
    put(file, "0 " + " ".join(f"{v:.7f}" for v in values))
    rows, _ = read_labels(file, {0: "cat"}, hw)
    assert rows[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert rows[0]["area"] == (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize(
    "line, message",
    [
        ("3 0.5 0.5 0.1 0.1", "line 2 has the class 3, and there are names for 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "line 2 has the class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2 has the class 0.5"),
        ("0 0.5 0.5 0.1", "line 2 has 4 numbers; it must be a class and 4 numbers"),
        ("0", "line 2 has 1 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 2 has 6 numbers; are these detections"),
        ("0 0.5 0.5 0.1 0.1 0.9 0.9 0.2", "line 2 has 8 numbers"),
        ("0 312 0.5 0.1 0.1", r"line 2 has 312; coordinates are shares .*are these pixels"),
        ("0 0.5 0.5 -0.005 0.1", "line 2 has a negative width or height"),
        ("0 0.5 0.5 nan 0.1", "line 2 is '0 0.5 0.5 nan 0.1'; its numbers must be finite"),
        ("cat 0.5 0.5 0.1 0.1", "line 2 is 'cat 0.5 0.5 0.1 0.1'; it must be numbers only"),
        ("0,0.5,0.5,0.1,0.1", "line 2 is '0,0.5,0.5,0.1,0.1'; it must be numbers only"),
    ],
)
def test_a_line_that_is_wrong(tmp_path, line, message):
    folder = write_yolo(tmp_path / "yolo", photos(2, 1, 0))
    put(folder / "labels/train/train0.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=f"train0.txt, {message}"):
        run(folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "yaml, message",
    [
        ("names: [", r"data.yaml is not valid YAML \(.*; correct it"),
        ("names: 3", "data.yaml: names is 3; it must be a list of names"),
        ("names: {a: cat}", "data.yaml: names has 'a': 'cat'; it must be"),
        ("names: []", "data.yaml has no names; add a line such as"),
        (
            "names: [cat]\ntrain: /content/gone\nval: images/val",
            "data.yaml: train is '/content/gone', and there is neither /content/gone nor a folder",
        ),
    ],
)
def test_a_configuration_that_is_wrong(tmp_path, yaml, message):
    folder = write_yolo(tmp_path / "yolo", photos(2, 1, 0))
    put(folder / "data.yaml", yaml)
    with pytest.raises(DataError, match=message):
        run(folder)


@pytest.mark.parametrize(
    "yaml",
    [
        "path: /content/datasets/x\ntrain: images/train\nval: images/val\nnames: [{}, {}, {}]",
        "train: /elsewhere/yolo/images/train\nval: /elsewhere/images/val\nnames: [{}, {}, {}]",
        "train: [images/train]\nval: images/val\ntest: gone\nnames: {{0: {}, 1: {}, 2: {}}}",
        "train: train.txt\nval: images/val\nnames:\n  0: {}\n  1: {}\n  2: {}",
        "names: [{}, {}, {}]",
    ],
)
def test_paths_of_another_machine_and_other_ways_to_say_it(tmp_path, yaml):
    them = photos(2, 1, 0)
    folder = write_yolo(tmp_path / "yolo", them)
    put(folder / "data.yaml", yaml.format(*NAMES))
    put(folder / "train.txt", "./images/train/train0.jpg\n/other/images/train/train1.jpg\n")
    found = run(folder)
    assert [row["file_name"] for row in found["images"]] == ["train0.jpg", "train1.jpg"]
    assert [row["name"] for row in found["categories"]] == list(NAMES)
    assert len(found["annotations"]) == sum(len(photo.objects) for photo in them[:2])


def test_labels_without_names_and_key_points(tmp_path):
    folder = write_yolo(tmp_path / "yolo", photos(2, 1, 0), yaml=False)
    (folder / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"says nowhere what its classes .*data.yaml"):
        run(folder)
    put(folder / "data.yaml", "names: [a, b, c]\nkpt_shape: [2, 3]\n")
    put(folder / "labels/train/train0.txt", "1 0.5 0.5 0.5 0.5 0.4 0.4 2 0 0 0\n")
    assert run(folder)["annotations"][0]["bbox"] == [16, 12, 32, 24]


def test_a_photo_that_lies_on_its_side_is_measured_upright(tmp_path):
    folder = write_yolo(tmp_path / "yolo", photos(2, 1, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = folder / "images/train/train0.jpg"  # stored 64x48
    Image.open(image).save(image, exif=exif)
    row = run(folder)["images"][0]
    assert (row["width"], row["height"]) == (48, 64)
    shutil.rmtree(tmp_path / "out")
    row = run(folder, "--config.data.exif=ignore")["images"][0]
    assert (row["width"], row["height"]) == (64, 48)


def test_label_studio_and_darknet(tmp_path):
    """As Label Studio and CVAT (YOLO 1.1) export: no data.yaml, images of one split."""
    them = photos(3, 0, 0)
    studio, darknet = tmp_path / "studio/set", tmp_path / "cvat/set"
    for photo in them:
        text = f"{photo.name[:-4]}.txt"
        put(studio / "images" / photo.name, photo.content)
        put(studio / "labels" / text, yolo_txt(photo))
        put(darknet / "obj_train_data" / photo.name, photo.content)
        put(darknet / "obj_train_data" / text, yolo_txt(photo))
    put(studio / "classes.txt", "\n".join(NAMES))
    put(studio / "notes.json", '{"categories": [{"id": 0, "name": "a"}], "info": {"year": 2026}}')
    put(darknet / "obj.names", "\n".join(NAMES))
    put(darknet / "obj.data", "classes = 3\nnames = data/obj.names\n")
    put(darknet / "train.txt", "".join(f"data/obj_train_data/{p.name}\n" for p in them))
    a, b = (run(folder, "--val-share=0") for folder in (studio, darknet))
    assert a == b and len(a["images"]) == 3
    assert len(a["annotations"]) == sum(len(photo.objects) for photo in them)
