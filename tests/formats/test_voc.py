"""Pascal VOC: splits, corners, difficult objects, and files that are wrong in one thing."""

import json
import re

import pytest
from formats.folders import photos, put, write_voc
from PIL import Image

from pse_jax.errors import DataError
from pse_jax.verbs import convert


def run(folder, *more):
    """Converts; the content of every split."""
    out = folder.parent / "out"
    assert convert.main([str(folder), str(out), "--no-check", *more]) == 0
    return {
        file.stem.removeprefix("instances_"): json.loads(file.read_text())
        for file in (out / "annotations").iterdir()
    }


def boxes(content):
    names = {row["id"]: row["name"] for row in content["categories"]}
    files = {row["id"]: row["file_name"] for row in content["images"]}
    return sorted(
        (files[a["image_id"]], names[a["category_id"]], tuple(a["bbox"]), a["iscrowd"])
        for a in content["annotations"]
    )


def wanted(them, crowd=0):
    return sorted(
        (photo.name, name, (x1, y1, x2 - x1, y2 - y1), crowd)
        for photo in them
        for name, (x1, y1, x2, y2) in photo.objects
    )


def of(them, split):
    return [photo for photo in them if photo.split == split]


@pytest.mark.parametrize("base", [0, 1])
def test_corners_count_from_one_unless_one_is_zero(tmp_path, base, caplog):
    them = photos()
    found = run(write_voc(tmp_path / "voc", them, base=base))
    assert boxes(found["train"]) == wanted(of(them, "train"))
    said = [r.getMessage() for r in caplog.records if "counting from 0" in r.getMessage()]
    assert len(said) == 1 - base
    if said:
        low = sum(min(box) == 0 for photo in them for _, box in photo.objects)
        assert f"{low} boxes have a corner under 1 (train0.xml has [" in said[0]


def test_corners_as_the_flag_says(tmp_path):
    them = photos(1, 1, 0)
    them[0].objects = [("WBC", (3, 4, 9, 10))]
    one = run(write_voc(tmp_path / "a/voc", them), "--voc-corners=zero-based")
    assert boxes(one["train"]) == [("train0.jpg", "WBC", (4, 5, 5, 5), 0)]
    them[0].objects = [("WBC", (0, 4, 9, 10))]
    other = run(write_voc(tmp_path / "b/voc", them, base=0), "--voc-corners=one-based")
    assert boxes(other["train"]) == [("train0.jpg", "WBC", (-1, 3, 10, 7), 0)]


@pytest.mark.parametrize(
    "choice, train, val",
    [("voc", 0, 1), ("keep", 0, 0), ("crowd", 1, 1), ("drop", None, None)],
)
def test_difficult_objects(tmp_path, choice, train, val):
    them = photos(2, 2, 0)
    for photo in them:
        photo.objects = [*photo.objects[:1], ("WBC", (1, 2, 30, 40))]
    found = run(write_voc(tmp_path / "voc", them, difficult={1}), f"--difficult={choice}")
    for split, crowd in (("train", train), ("val", val)):
        rows = [a for a in found[split]["annotations"] if a["bbox"] == [1, 2, 29, 38]]
        assert [row["iscrowd"] for row in rows] == ([crowd] * 2 if crowd is not None else [])
        assert len(found[split]["annotations"]) == (4 if crowd is not None else 2)


def test_trainval_is_train_where_there_is_no_train_and_lists_of_a_class_are_not_read(tmp_path):
    them = photos(3, 2, 0)
    folder = write_voc(tmp_path / "voc", them, lists=False)
    lists = folder / "ImageSets/Main"
    put(lists / "trainval.txt", "train0\ntrain1\nval0 \n\n")
    put(lists / "WBC_train.txt", "train2 -1\n")
    put(lists / "test.txt", "val1.jpg\n")
    found = run(folder, "--val-share=0")
    names = {split: [row["file_name"] for row in c["images"]] for split, c in found.items()}
    assert names == {"train": ["train0.jpg", "train1.jpg", "val0.jpg"], "test": ["val1.jpg"]}


def test_xml_files_beside_the_images(tmp_path):
    them = photos()
    folder = tmp_path / "voc"
    for photo in them:
        source = write_voc(tmp_path / "one", [photo], lists=False)
        split = {"val": "valid"}.get(photo.split, photo.split)
        stem = photo.name[:-4]
        put(folder / split / photo.name, photo.content)
        xml = (source / "Annotations" / f"{stem}.xml").read_bytes()
        put(folder / split / f"{stem}.xml", xml)
    assert boxes(run(folder)["val"]) == wanted(of(them, "val"))


def test_the_header_of_the_image_overrules_a_wrong_size_but_not_a_turned_one(tmp_path, capsys):
    them = photos(3, 1, 0)
    folder = write_voc(tmp_path / "voc", them)

    def size(photo, width, height):
        file = folder / "Annotations" / f"{photo.name[:-4]}.xml"
        text = re.sub(r"<width>\d+", f"<width>{width}", file.read_text())
        put(file, re.sub(r"<height>\d+", f"<height>{height}", text))

    size(them[0], 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for photo, (width, height) in ((them[1], (64, 48)), (them[3], (48, 64))):
        image = folder / "JPEGImages" / photo.name  # stored 48x64 and 64x48
        Image.open(image).save(image, exif=exif)
        size(photo, width, height)  # annotated upright
    found = run(folder)
    sizes = {
        row["file_name"]: (row["width"], row["height"])
        for content in found.values()
        for row in content["images"]
    }
    assert sizes == {"train0.jpg": (64, 48), "train1.jpg": (64, 48), "train2.jpg": (56, 56)} | {
        "val0.jpg": (48, 64)
    }
    assert "1 x size in the XML that is not the image's" in capsys.readouterr().out


OBJECT = "<object><name>WBC</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax>{}"
END = "<ymax>9</ymax></bndbox></object>"


@pytest.mark.parametrize(
    "xml, message",
    [
        ("", r"train0.xml is not valid XML \(no element found"),
        ("<annotation><object>", r"train0.xml is not valid XML .*cut off in a copy"),
        ("<html></html>", "train0.xml is XML, but <html>"),
        ("<annotation><object><name> </name></object></annotation>", r"object\[0\] has no name"),
        (
            "<annotation><object><name>a</name><robndbox/></object></annotation>",
            r"object\[0\] \(a\) has no bndbox, only name, robndbox; give it one",
        ),
        (f"<annotation>{OBJECT.format('x', END)}</annotation>", r"\(WBC\) has xmax 'x'; it must"),
        (f"<annotation>{OBJECT.format('nan', END)}</annotation>", r"\(WBC\) has xmax 'nan'"),
        (f"<annotation>{OBJECT.format('1e10', END)}</annotation>", r"\(WBC\) has xmax '1e10'"),
        (
            f"<annotation>{OBJECT.format(5, '</bndbox></object>')}</annotation>",
            r"\(WBC\) has ymax None",
        ),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
            "train0.xml has a document type or entities",
        ),
        (b"\xff\xfe\x00", "train0.xml is not valid XML"),
    ],
)
def test_an_xml_file_that_is_wrong(tmp_path, xml, message):
    folder = write_voc(tmp_path / "voc", photos(2, 1, 0))
    put(folder / "Annotations/train0.xml", xml)
    with pytest.raises(DataError, match=message):
        run(folder)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_an_error_or_counted(tmp_path, capsys):
    them = photos(5, 2, 1)
    folder = write_voc(tmp_path / "voc", them)
    (folder / "JPEGImages/train1.jpg").unlink()
    (folder / "Annotations/train2.xml").unlink()
    put(folder / "JPEGImages/train3.jpg", b"\xff\xd8\xffno image")
    with pytest.raises(DataError) as error:
        run(folder)
    for part in (
        "1 x image listed without an XML file (train2 in train.txt)",
        "1 x XML file without its image (train1.xml)",
        "1 x image that cannot be read (",
        "--skip-broken",
    ):
        assert part in str(error.value)
    found = run(folder, "--skip-broken")
    assert [row["file_name"] for row in found["train"]["images"]] == ["train0.jpg", "train4.jpg"]
    out = capsys.readouterr().out
    assert "1 x XML file without its image" in out and "1 x image that cannot be read" in out


def test_a_name_in_the_xml_finds_an_image_of_another_name(tmp_path, capsys):
    them = photos(2, 1, 0)
    folder = write_voc(tmp_path / "voc", them)
    (folder / "Annotations/train0.xml").rename(folder / "Annotations/0001.xml")
    put(folder / "ImageSets/Main/train.txt", "0001\ntrain1\ntrain1\n")
    assert boxes(run(folder)["train"]) == wanted(of(them, "train"))
    out = capsys.readouterr().out
    assert "1 x image found by its filename in the XML" in out
    assert "1 x image listed twice, taken once" in out


def test_corners_in_the_wrong_order(tmp_path, capsys):
    them = photos(1, 1, 0)
    folder = write_voc(tmp_path / "voc", them)
    text = (folder / "Annotations/train0.xml").read_text()
    for a, b in (("min", "MAX"), ("max", "min"), ("MAX", "max")):
        text = re.sub(rf"(</?[xy]){a}>", rf"\1{b}>", text)
    put(folder / "Annotations/train0.xml", text)
    assert boxes(run(folder)["train"]) == wanted(of(them, "train"))
    assert "corners in the wrong order, put right" in capsys.readouterr().out
