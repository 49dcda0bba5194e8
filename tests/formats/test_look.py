"""Whatever is pointed at: what it is, and the command that makes it usable."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile

import coco_files
import numpy as np
import pytest
from formats.folders import photos, put, write_roboflow, write_voc, write_yolo

from pse_jax.config import DataConfig
from pse_jax.data import coco, sources
from pse_jax.data.formats.look import look
from pse_jax.errors import DataError, UserError
from pse_jax.verbs import check, convert


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "b")
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return stream.getvalue()


def array():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


COCO = json.dumps(coco_files.good())
RESULTS = '[{"image_id": 10, "category_id": 7, "bbox": [8, 4, 40, 20], "score": 0.9}]'
LABELME = '{"version": "5.0", "flags": {}, "shapes": [], "imagePath": "a.jpg", "imageData": null}'
FILES = {
    "a.zip": (zipped(), "is a zip archive", "unpack it"),
    "a.tar": (tarred(), "is a tar archive", "unpack it"),
    "a.tgz": (gzip.compress(tarred()), "is a gzip archive", "unpack it"),
    "a.jpg": (photos(1, 0, 0)[0].content, "is an image", "what is recognised: COCO"),
    "a.npy": (array(), "is a NumPy array", "what is recognised: COCO"),
    "a.parquet": (b"PAR1 and more", "is a Parquet table", "export the labels as COCO"),
    "a.csv": ("x,y\n1,2\n", "is a CSV table", "what is recognised"),
    "a.html": ("<!doctype html><html>404</html>", "is an HTML page", "what is recognised"),
    "cvat.xml": ("<?xml?><annotations><version>1.1", "is CVAT annotations", "cvat.xml --output"),
    "lfs.json": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:1",
        "is a pointer of Git LFS, not the file itself",
        "git lfs pull",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else(tmp_path, name):
    content, what, remedy = FILES[name]
    put(tmp_path / name, content)
    with pytest.raises(DataError) as error:
        convert.main([str(tmp_path / name), str(tmp_path / "out")])
    assert what in str(error.value) and remedy in str(error.value)
    with pytest.raises(DataError) as error:  # the same where annotations are read
        coco.load_ground_truth(tmp_path / name)
    assert what in str(error.value) and ", not annotations in a JSON file; " in str(error.value)
    assert remedy in str(error.value) and "cut off" not in str(error.value)


def test_json_that_is_cut_off_is_called_so(tmp_path):
    for k, content in enumerate((COCO, RESULTS)):
        put(tmp_path / f"{k}.json", content[:-20])
        with pytest.raises(DataError, match=r"not valid JSON .*was it cut off in a copy"):
            coco.load_ground_truth(tmp_path / f"{k}.json")


def labelme(folder):
    put(folder / "a.json", LABELME)
    put(folder / "a.jpg", b"\xff\xd8\xff")


def results(folder):
    put(folder / "a.json", RESULTS)


def only_images(folder):
    put(folder / "a.jpg", b"\xff\xd8\xff")


def labels_alone(folder):
    put(folder / "a.xml", "<annotation></annotation>")


def tfds(folder):
    put(folder / "dataset_info.json", "{}")
    put(folder / "features.json", "{}")


def records(folder):
    put(folder / "a-00000-of-00001.tfrecord", "")


def archive(folder):
    put(folder / "a.zip", zipped())


def other(folder):
    put(folder / "readme.md", "hello")


def nothing(folder):
    folder.mkdir()


def two(folder):
    for name in ("VOC2007", "VOC2012"):
        write_voc(folder / name, photos(2, 1, 0))


FOLDERS = {
    labelme: ("a folder with a LabelMe annotation (a.json)", "export the labels as COCO"),
    results: ("a folder with COCO results (a.json)", "these are detections"),
    only_images: ("a folder of images without any labels", "what is recognised"),
    labels_alone: ("a folder with a VOC annotation (a.xml)", "put the images beside"),
    tfds: ("a folder of TensorFlow Datasets", "--config.data.source=tfds"),
    records: ("a folder of record files", "export the labels as COCO"),
    archive: ("a folder with a zip archive (a.zip)", "unpack it"),
    other: ("no data set is recognised (it holds readme.md)", "docs/data.md"),
    nothing: ("an empty folder", "what is recognised"),
    two: ("a folder around 2 data sets", "VOC2012"),
}


@pytest.mark.parametrize("make", FOLDERS, ids=lambda f: f.__name__)
def test_a_folder_that_cannot_be_used(tmp_path, make):
    folder = tmp_path / "x"
    make(folder)
    what, remedy = FOLDERS[make]
    with pytest.raises(DataError) as error:
        convert.main([str(folder), str(tmp_path / "out")])
    assert what in str(error.value) and remedy in str(error.value)
    if make not in (other, nothing):
        with pytest.raises(DataError) as error:  # as the root of a training
            sources.open_split(DataConfig(root=str(folder)), "train")
        assert what in str(error.value) and remedy in str(error.value)


@pytest.mark.parametrize("writer", [write_voc, write_yolo])
@pytest.mark.parametrize("inner", ["", "VOCdevkit"])
def test_what_needs_converting_is_told_with_the_command_wherever_it_is_pointed_at(
    tmp_path, writer, inner
):
    folder = writer(tmp_path / "set" / inner, photos(2, 1, 0))
    command = f"python -m pse_jax convert {folder} {folder}-coco`"
    with pytest.raises(DataError) as error:
        sources.open_split(DataConfig(root=str(tmp_path / "set")), "train")
    assert command in str(error.value) and f"--config.data.root={folder}-coco" in str(error.value)
    files = [tmp_path / "set", *(f for f in folder.rglob("*") if f.suffix in (".xml", ".yaml"))]
    files += [] if writer is write_voc else [*folder.rglob("train*.txt")]
    files += [f for f in folder.rglob("*") if f.is_dir()]  # Annotations/, labels/train, ...
    assert len(files) > 3
    for file in files:
        for what in (check_main, coco.load_ground_truth):
            with pytest.raises(UserError) as error:
                what(file)
            assert command in str(error.value), file
    assert convert.main([str(tmp_path / "set"), f"{folder}-coco", "--no-check"]) == 0


def check_main(file):
    check.main(["--annotations", str(file), "--images", str(file.parent)])


def test_coco_as_it_comes_trains_straight(tmp_path):
    """The four names are found; a name that is given is left alone."""
    them = photos()
    folder = write_roboflow(tmp_path / "rf", them)
    config = sources.locate(DataConfig(root=str(folder)))
    assert (config.train_annotations, config.train_images, config.val_annotations) == (
        "train/_annotations.coco.json",
        "train",
        "valid/_annotations.coco.json",
    )
    dataset = sources.open_split(config, "val")
    assert len(dataset) == 3 and dataset.categories.ids == (1, 2, 3)
    given = DataConfig(root=str(folder), val_images="pictures")
    assert sources.locate(given) == given
    with pytest.raises(DataError, match=f"Roboflow's COCO layout .*use it with .*root={folder}"):
        sources.open_split(given, "val")


def plain(folder, annotations, images):
    """Two splits in COCO's format, where the arguments say."""
    for split in ("train", "val"):
        file, pictures = coco_files.write(folder / "made" / split)
        put(folder / annotations.format(split), file.read_text())
        target = folder / images.format(split)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(pictures, target, dirs_exist_ok=True)
    shutil.rmtree(folder / "made")
    return folder


@pytest.mark.parametrize(
    "annotations, images",
    [
        ("annotations/instances_{}2014.json", "{}2014"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/{}.json", "images"),
        ("annotations/custom_{}.json", "pictures"),
        ("{}.json", "images"),
        ("{}/labels.json", "{}"),
    ],
)
def test_plain_coco_is_found_by_looking(tmp_path, annotations, images):
    folder = plain(tmp_path / "set", annotations, images)
    put(folder / "annotations/captions_train2014.json", COCO)
    found = sources.locate(DataConfig(root=str(folder)))
    assert found.train_annotations == annotations.format("train")
    assert len(sources.open_split(found, "train")) == len(sources.open_split(found, "val")) == 3


def test_a_second_annotation_file_of_a_split_is_said_to_be_left_out(tmp_path):
    file, _ = coco_files.write(tmp_path / "set")
    annotations = file.parent / "annotations"
    annotations.mkdir()
    for name in ("instances_train", "instances_train_more", "instances_val", "instances_other"):
        shutil.copy(file, annotations / f"{name}.json")
    found = look(tmp_path / "set")
    left_out = "instances_other.json, instances_train_more.json left out"
    assert found.what == f"a data set in COCO's format (train, val; {left_out})"
    assert found.parts["train"][0].labels.name == "instances_train.json"


def test_one_file_beside_its_images_needs_a_val_split(tmp_path, capsys):
    file, images = coco_files.write(tmp_path / "set")
    for name in images.iterdir():
        name.rename(file.parent / name.name)
    images.rmdir()
    with pytest.raises(DataError, match=r"it has no val split; `.* --split=0.2` makes one"):
        sources.open_split(DataConfig(root=str(file.parent)), "val")
    for source in (file.parent, file):
        out = tmp_path / f"out{source.suffix}"
        assert convert.main([str(source), str(out), "--val-share=0.4", "--seed=1"]) == 0
        assert "the data can be used" in capsys.readouterr().out
        parts = [sources.open_split(DataConfig(root=str(out)), s) for s in ("train", "val")]
        assert sorted(i for part in parts for i in part.image_ids) == [10, 20, 30]
        assert [len(part) for part in parts] == [2, 1]
        assert sum(part.crowd.sum() for part in parts) == 1
        assert sum(part.area.sum() for part in parts) == 800 + 512 + 600 + 48 * 64


def test_looking_reads_little(tmp_path):
    put(tmp_path / "set/annotations/instances_train.json", COCO[:-1] + ", " + " " * (1 << 22))
    put(tmp_path / "set/train/a.jpg", b"\xff\xd8\xff")
    assert look(tmp_path / "set").kind == "coco"  # it is not whole, and nobody noticed


def test_the_category_that_names_a_roboflow_project_is_left_out_only_if_it_is_that(tmp_path):
    """It has the id 0, no box, and is what all others name as their supercategory."""
    folder = write_roboflow(tmp_path / "rf", photos())
    file = folder / "train/_annotations.coco.json"
    content = json.loads(file.read_text())

    def ids(change):
        changed = json.loads(json.dumps(content))
        change(changed)
        put(file, json.dumps(changed))
        tables = [coco.load_ground_truth(file).categories, coco.load_categories(file)]
        assert tables[0] == tables[1] == coco.load(file, file.parent).categories
        return tables[0].ids

    def top(changed):
        return changed["categories"][0]

    assert ids(lambda c: None) == (1, 2, 3)
    assert ids(lambda c: c["annotations"][0].update(category_id=0)) == (0, 1, 2, 3)
    assert ids(lambda c: top(c).update(supercategory="thing")) == (0, 1, 2, 3)
    assert ids(lambda c: top(c).update(name="other")) == (0, 1, 2, 3)
    assert ids(lambda c: top(c).update(id=9)) == (1, 2, 3, 9)
    assert ids(lambda c: c["categories"][2].update(supercategory="none")) == (0, 1, 2, 3)
