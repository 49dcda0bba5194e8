"""coco/2017 by tensorflow_datasets beside the same images as COCO's own files.

tests/data/make_tiny_coco.py made both; TFDS's own builder wrote the second from the first.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.categories import COCO
from pse_jax.config import Config, DataConfig
from pse_jax.data import sources
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, buckets_for
from pse_jax.data.tfds import prepare, prepared
from pse_jax.data.tfds.index import xywh_of
from pse_jax.data.tfds.reader import TOLERANCE
from pse_jax.detector import Detector
from pse_jax.errors import ConfigError, DataError, ImageError
from pse_jax.evaluation.oracles import score
from pse_jax.runs import evaluate
from pse_jax.runs.predict import Predicted

DATA = Path(__file__).parent / "data"
FILES, PREPARED = DATA / "tiny_coco", DATA / "tiny_coco_tfds"
VERSION = "coco/2017/1.1.0"
SHARD = "coco-train.array_record-00001-of-00002"


@pytest.fixture
def copy(tmp_path):
    """A copy of the prepared data set, to be broken; its data_dir."""
    return Path(shutil.copytree(PREPARED, tmp_path / "tfds"))


def files():
    return DataConfig(root=str(FILES))


def by_tfds(tmp_path, root=PREPARED, **more):
    cache = str(tmp_path / "cache")
    return DataConfig(source="tfds", root=str(root), cache_dir=cache, threads=3, **more)


def official(split):
    return str(FILES / "annotations" / f"instances_{split}2017.json")


def rows_of(dataset, i):
    """The annotations of image i: (box, category, crowd), sorted."""
    its = np.flatnonzero(dataset.image == i)
    rows = zip(dataset.boxes_xywh[its], dataset.category[its], dataset.crowd[its], strict=True)
    return sorted((tuple(box.tolist()), int(c), bool(k)) for box, c, k in rows)


def all_batches(dataset, data, steps=12):
    plan = TrainPlan(buckets_for(dataset.sizes_hw, data), 4, 1, 0.5, steps)
    return list(batches(dataset, plan, rows=slice(0, 4), threads=3, prefetch=2))


def small(data):
    data.short_side, data.long_side, data.buckets = 64, 96, 3
    return data


def test_the_same_training_batches_as_from_the_files(tmp_path):
    data = small(by_tfds(tmp_path)), small(files())
    ours, theirs = (sources.open_train(one) for one in data)
    assert ours.image_ids.tolist() == theirs.image_ids.tolist() and len(ours) == 8
    assert ours.capacity == theirs.capacity and ours.categories == theirs.categories
    pairs = zip(all_batches(ours, data[0]), all_batches(theirs, data[1]), strict=True)
    for left, right in pairs:
        assert left.keys() == right.keys()
        for key in left:  # pixels and boxes to the bit: the JSON's numbers have two decimals
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)
        assert left["image_valid"].all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_data_set_as_from_the_files(tmp_path, split):
    ours = sources.open_split(by_tfds(tmp_path), split)
    theirs = sources.open_split(files(), split)
    content = json.loads(Path(official(split)).read_text())
    assert sorted(ours.image_ids) == sorted(image["id"] for image in content["images"])
    assert ours.image_names == theirs.image_names
    assert ours.sizes_hw.tolist() == theirs.sizes_hw.tolist()
    assert ours.problems == theirs.problems
    for i in range(len(theirs)):
        assert rows_of(ours, i) == rows_of(theirs, i)
        assert ours.bytes_of(i) == theirs.bytes_of(i)
        np.testing.assert_array_equal(ours.pixels_of(i), theirs.pixels_of(i))
        boxes = (dataset.boxes_of(i)[0].tolist() for dataset in (ours, theirs))
        assert sorted(next(boxes)) == sorted(next(boxes))
    areas = {a["area"] for a in content["annotations"]}
    assert sorted(ours.area) == sorted(float(int(area)) for area in theirs.area)
    assert {int(area) for area in areas} != areas  # the data set has fractions to lose


def test_the_data_set_has_what_coco_has(tmp_path):
    train, val = (sources.open_split(by_tfds(tmp_path), split) for split in ("train", "val"))
    assert train.crowd.sum() == 1 and val.crowd.sum() == 1
    assert (np.bincount(train.image, minlength=len(train)) == 0).any()
    assert sum(train.problems.values()) == 2
    assert len({tuple(hw) for hw in train.sizes_hw.tolist()}) > 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_official_json_is_taken_where_it_is_named(tmp_path, split):
    data = by_tfds(tmp_path, **{f"{split}_annotations": official(split)})
    ours, theirs = sources.open_split(data, split), sources.open_split(files(), split)
    for name in ("image", "category", "boxes_xywh", "area", "crowd", "boxes_xyxy", "labels"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.source == official(split) and not ours.note
    assert all(ours.bytes_of(i) == theirs.bytes_of(i) for i in range(len(ours)))


def test_the_official_json_is_found_below_the_root(tmp_path, copy):
    shutil.copytree(FILES / "annotations", copy / "annotations")
    assert not sources.open_split(by_tfds(tmp_path, copy), "val").note
    assert sources.open_split(by_tfds(tmp_path), "val").note == TOLERANCE


def test_an_official_json_of_other_images_or_of_none(tmp_path, caplog):
    data = by_tfds(tmp_path, val_annotations=official("train"))
    with pytest.raises(DataError, match=r"lists 9 of 9 images .* does not hold, such as id \d+"):
        sources.open_split(data, "val")
    data.val_annotations = str(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"none\.json.*leave it out to use TFDS's own"):
        sources.open_split(data, "val")
    content = json.loads(Path(official("val")).read_text())
    content["images"] = content["images"][:3]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    (tmp_path / "part.json").write_text(json.dumps(content))
    data.val_annotations = str(tmp_path / "part.json")
    assert set(sources.open_split(data, "val").image_ids) == ids
    assert "lists 2 images fewer" in caplog.text


def test_scores_by_tfds_differ_by_the_stated_tolerance_alone(tmp_path):
    """An object of 1024.375 px² is medium; without its fraction it is small as well."""
    ours = sources.open_split(by_tfds(tmp_path), "val")
    theirs = sources.open_split(files(), "val")
    numbers = []
    for dataset in (ours, theirs):
        keep = np.flatnonzero(~dataset.crowd)
        keep = keep[np.argsort(dataset.boxes_xywh[keep, 0])]
        found = json.loads(json.dumps([
            {
                "image_id": int(dataset.image_ids[dataset.image[g]]),
                "category_id": int(dataset.categories.ids[dataset.category[g]]),
                "bbox": (dataset.boxes_xywh[g] + [1, 2, 3, 1]).tolist(),
                "score": float(1 / (1 + dataset.boxes_xywh[g, 0])),
            }
            for g in keep
        ]))  # fmt: skip
        numbers.append(score(dataset, sources.coco.load_results(found, dataset)))
    for name in ("AP", "AP50", "AP75", "AR1", "AR100", "APL", "APM"):
        np.testing.assert_equal(numbers[0][name], numbers[1][name])
    assert numbers[0]["APS"] != numbers[1]["APS"]


def test_an_evaluation_states_the_tolerance(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)

    def predict(_, dataset):  # no detector is asked
        return Predicted(sources.coco.load_results([], dataset), [], len(dataset))

    monkeypatch.setattr(evaluate, "predict", predict)
    for data, told in ((by_tfds(tmp_path), True), (files(), False)):
        dataset = sources.open_split(data, "val")
        caplog.clear()
        numbers = evaluate.evaluate(Detector(Config(), COCO, {}, 7), dataset, tmp_path)
        written = json.loads((tmp_path / "eval_7.json").read_text())
        assert numbers.get("note") == written.get("note") == (TOLERANCE if told else None)
        assert ("1024 to 1025" in caplog.text) is told


@given(st.data())
def test_boxes_survive_float32_to_the_bit(data):
    """Any box of two decimals in any JPEG, as TFDS's builder stores it: shares, in float32."""
    side = st.integers(1, 65_535)
    height, width = data.draw(side), data.draw(side)
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, 100 * width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, 100 * height)] * 2)))
    x, y, w, h = (n / 100 for n in (left, top, right - left, bottom - top))
    stored = np.array([[y / height, x / width, (y + h) / height, (x + w) / width]], np.float32)
    assert xywh_of(stored, np.array([[height, width]])).tolist() == [[x, y, w, h]]


def test_boxes_of_more_decimals_move_by_half_a_hundredth_at_most():
    rng = np.random.default_rng(0)
    low, size = rng.uniform(0, 200, (1000, 2)), rng.uniform(0, 200, (1000, 2))
    stored = np.concatenate([low, low + size], 1)[:, [1, 0, 3, 2]] / [480, 640, 480, 640]
    sizes = np.tile([[480, 640]], (1000, 1))
    found = xywh_of(stored.astype(np.float32), sizes)
    assert np.abs(found[:, :2] - low).max() < 0.0051
    assert np.abs(found[:, 2:] - size).max() < 0.0101
    assert all(Fraction(str(v)) * 100 % 1 == 0 for v in found.ravel().tolist())


def test_records_are_what_tfds_decodes(tmp_path):
    """Ours is a shorter way to read a record; TFDS's own takes a millisecond."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(PREPARED / VERSION)
    skip = {"image": tfds.decode.SkipDecoding()}
    theirs = {e["image/id"]: e for e in builder.as_data_source("train", decoders=skip)}
    ours = sources.open_split(by_tfds(tmp_path), "train")
    assert set(theirs) == set(ours.image_ids.tolist())
    for i, identity in enumerate(ours.image_ids.tolist()):
        example, its = theirs[identity], ours.image == i
        assert ours.bytes_of(i) == example["image"]
        assert ours.image_names[i] == example["image/filename"].decode()
        assert ours.category[its].tolist() == [int(k) for k in example["objects"]["label"]]
        assert ours.crowd[its].tolist() == [bool(c) for c in example["objects"]["is_crowd"]]


def test_no_tensorflow_is_imported(tmp_path):
    code = (
        "import sys\n"
        "from pse_jax.config import DataConfig\n"
        "from pse_jax.data import sources\n"
        f"data = DataConfig(source='tfds', root={str(PREPARED)!r}, cache_dir={str(tmp_path)!r})\n"
        "val = sources.open_split(data, 'val')\n"
        "assert val.pixels_of(0).shape[2] == 3\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(len(val))\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "5\n", done.stderr


def test_many_threads_read_the_same_bytes(tmp_path):
    dataset = sources.open_split(by_tfds(tmp_path), "train")
    once = [dataset.bytes_of(i) for i in range(len(dataset))]
    with ThreadPoolExecutor(16) as executor:
        often = list(executor.map(lambda n: dataset.bytes_of(n % len(dataset)), range(900)))
    assert all(found == once[n % len(dataset)] for n, found in enumerate(often))


# What is missing, damaged or stale


def index_files(tmp_path):
    return sorted((tmp_path / "cache" / "tfds").glob("*.npz"))


def test_the_second_start_reads_the_index_alone(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    first = sources.open_split(by_tfds(tmp_path), "train")
    assert "indexed 9 train records" in caplog.text and len(index_files(tmp_path)) == 1
    caplog.clear()
    monkeypatch.setattr(prepared.Records, "read", None)
    second = sources.open_split(by_tfds(tmp_path), "train")
    assert "indexed" not in caplog.text
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    assert first.sizes_hw.tolist() == second.sizes_hw.tolist()


def test_a_stale_index_is_made_anew(tmp_path, copy, caplog):
    before = sources.open_split(by_tfds(tmp_path, copy), "val")
    folder = copy / VERSION
    # Another data set takes the place of this one: its own training images, as validation.
    for name in os.listdir(folder):
        if "train" in name:
            shutil.copy2(folder / name, folder / name.replace("train", "validation"))
    info = (folder / "dataset_info.json").read_text()
    lengths = '"2",\n        "3"', '"4",\n        "5"'
    assert lengths[0] in info
    (folder / "dataset_info.json").write_text(info.replace(*lengths))
    after = sources.open_split(by_tfds(tmp_path, copy), "val")
    assert "is of other shards than those that are there now; rebuilding it" in caplog.text
    assert len(before) == 5 and len(after) == 9 and len(index_files(tmp_path)) == 1
    assert set(after.image_ids) == set(sources.open_split(files(), "train").image_ids)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_index_is_made_anew(tmp_path, caplog, damage):
    good = sources.open_split(by_tfds(tmp_path), "train")
    (file,) = index_files(tmp_path)
    content = file.read_bytes()
    middle = content.index(b"\x93NUMPY", len(content) // 2) + 200
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    bad = {"cut": content[:-100], "flipped": flipped, "empty": b"", "text": b"not an archive"}
    file.write_bytes(bad[damage])
    again = sources.open_split(by_tfds(tmp_path), "train")
    assert "cannot be used" in caplog.text and "rebuilding it" in caplog.text
    np.testing.assert_array_equal(good.boxes_xyxy, again.boxes_xyxy)
    assert file.read_bytes() == content


def test_an_index_that_cannot_be_kept_is_no_error(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "cache").write_text("a file")
    assert len(sources.open_split(by_tfds(tmp_path), "val")) == 5
    assert "not kept" in caplog.text


@pytest.mark.parametrize("size", [0, 100, 70_000, 131_071])
def test_a_truncated_shard_is_found_before_training(tmp_path, copy, size):
    sources.open_split(by_tfds(tmp_path, copy), "train")  # an index of the whole one is there
    os.truncate(copy / VERSION / SHARD, size)
    with pytest.raises(DataError, match=rf"{SHARD} cannot be read: .*copy it again"):
        sources.open_split(by_tfds(tmp_path, copy), "train")


def test_a_damaged_record_is_found_before_training(tmp_path, copy):
    shard = copy / VERSION / SHARD
    content = bytearray(shard.read_bytes())
    content[3000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{SHARD}, record 1 cannot be read: .*hash mismatch"):
        sources.open_split(by_tfds(tmp_path, copy), "train")


def test_a_shard_that_is_damaged_later_leaves_an_image_out(tmp_path, copy):
    dataset = sources.open_split(by_tfds(tmp_path, copy), "train")
    shard = copy / VERSION / SHARD
    with shard.open("r+b") as file:
        file.seek(3000)
        file.write(b"\0" * 20)
    found = 0
    for i in range(len(dataset)):
        try:
            dataset.pixels_of(i)
        except ImageError as error:
            found += 1
            assert SHARD in str(error)
    assert found == 1


def test_a_shard_that_is_replaced_while_in_use_is_noticed(tmp_path, copy):
    sources.open_split(by_tfds(tmp_path, copy), "train")
    dataset = sources.open_split(by_tfds(tmp_path, copy), "train")  # by the index: no shard is open
    first, second = (copy / VERSION / SHARD.replace("00001-", f"0000{k}-") for k in (0, 1))
    shutil.copy(first, second)
    errors = []
    for i in range(len(dataset)):
        try:
            dataset.bytes_of(i)
        except ImageError as error:
            errors.append(str(error))
    assert len(errors) == 5
    assert sum("the shard was replaced while it was in use" in e for e in errors) == 4


@pytest.mark.parametrize(
    "name, message",
    [
        (SHARD, rf"lacks 1 of the 2 shards of train: {SHARD}; copy it again"),
        ("features.json", "cannot be opened by TFDS .*; copy it again"),
        ("objects-label.labels.txt", "cannot be opened by TFDS|other classes than COCO's 80"),
    ],
)
def test_a_missing_file(tmp_path, copy, name, message):
    (copy / VERSION / name).unlink()
    with pytest.raises(DataError, match=message):
        sources.open_split(by_tfds(tmp_path, copy), "train")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"array_record"', '"tfrecord"', "is prepared as tfrecord, which cannot be read"),
        ('"configName": "2017"', '"configName": "2014"', "holds coco/2014; only coco/2017"),
        ('"name": "coco"', '"name": "voc"', "holds voc/2017; only coco/2017"),
        ('"5"', '"4"', rf"{SHARD} has 5 records, and dataset_info.json says 4"),
        ('"citation"', '"cit', "cannot be opened by TFDS"),
    ],
)
def test_another_data_set_or_format(tmp_path, copy, old, new, message):
    info = copy / VERSION / "dataset_info.json"
    info.write_text(info.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        sources.open_split(by_tfds(tmp_path, copy), "train")


def test_array_record_beside_another_format(tmp_path, copy):
    """What `tfds convert_format` leaves in place of a set that was prepared as TFRECORD."""
    info = copy / VERSION / "dataset_info.json"
    old, new = '"fileFormat": "array_record"', '"fileFormat": "tfrecord"'
    both = f'"alternativeFileFormats": ["array_record"], {new}'
    assert old in info.read_text()
    info.write_text(info.read_text().replace(old, both))
    dataset = sources.open_split(by_tfds(tmp_path, copy), "val")
    assert len(dataset) == 5 and dataset.pixels_of(0).ndim == 3


def test_other_class_names(tmp_path, copy):
    labels = copy / VERSION / "objects-label.labels.txt"
    labels.write_text(labels.read_text().replace("bicycle", "bike"))
    with pytest.raises(DataError, match="other classes than COCO's 80"):
        sources.open_split(by_tfds(tmp_path, copy), "train")


def test_a_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ConfigError, match=r'needs tensorflow_datasets: pip install "pse-jax\[tfds'):
        sources.open_split(by_tfds(tmp_path), "train")


# Where it is looked for


@pytest.mark.parametrize("below", ["", "coco", "coco/2017", VERSION])
def test_any_folder_between_data_dir_and_version(tmp_path, below):
    assert len(sources.open_split(by_tfds(tmp_path, PREPARED / below), "val")) == 5


def test_the_default_folder_is_found_and_said(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    located = sources.locate(DataConfig())
    assert located.source == "tfds" and located.root == str(PREPARED)
    assert f"coco/2017 is read by TFDS, from {PREPARED}" in caplog.text
    assert sources.locate(by_tfds(tmp_path, "")).root == str(PREPARED)
    assert sources.locate(files()).source == "coco"  # a root that is given is used
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepared.default_root() == tmp_path / "tensorflow_datasets"


def test_a_bucket_is_no_local_folder():
    with pytest.raises(ConfigError, match="root=gs://bucket/tfds: array_record is read from a"):
        sources.locate(DataConfig(source="tfds", root="gs://bucket/tfds"))


@pytest.mark.parametrize("source", ["coco", "tfds"])
def test_no_data_names_every_way(tmp_path, monkeypatch, source):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "coco" / "2017" / "incomplete.ABC_1.1.0").mkdir(parents=True)
    (tmp_path / "coco" / "2017" / "incomplete.ABC_1.1.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        sources.locate(DataConfig(source=source))
    for words in (
        f"TFDS's folder {tmp_path}",
        "train2017/",
        "--config.data.root=FOLDER",
        "python -m pse_jax prepare-tfds",
        "--config.data.source=tfds",
        "configs/shapes_pse.py",
    ):
        assert words in str(caught.value)


# Preparing; with TensorFlow, tests/data/make_tiny_coco.py runs all of it


def test_preparing_needs_tensorflow(tmp_path, monkeypatch):
    find_spec = prepare.importlib.util.find_spec
    hidden = {"tensorflow": None}
    monkeypatch.setattr(
        prepare.importlib.util, "find_spec", lambda name: hidden.get(name, find_spec(name))
        if name in hidden else find_spec(name),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"needs tensorflow: pip install .*tfds-prepare"):
        prepare.prepare(tmp_path)
    assert prepare.prepare(PREPARED) == PREPARED / VERSION  # nothing is to be done


class FakeBuilder:
    """In the place of TFDS's: notes how it is called, and copies the tiny data set or fails."""

    def __init__(self, error=None):
        self.error = error

    def __call__(self, name, data_dir, file_format):
        assert (name, file_format) == ("coco/2017", "array_record")
        self.data_dir = data_dir / VERSION
        return self

    def download_and_prepare(self, download_config):
        if self.error:
            raise self.error
        shutil.copytree(PREPARED / VERSION, self.data_dir)


def test_prepare_tfds(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets

    from pse_jax.__main__ import main

    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorflow_datasets, "builder", FakeBuilder(OSError("Connection reset")))
    assert main(["prepare-tfds", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "OSError: Connection reset" in error and "run the same command again" in error
    monkeypatch.setattr(tensorflow_datasets, "builder", FakeBuilder())
    assert main(["prepare-tfds", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "9 train, 5 validation" in told
    assert f"--config.data.source=tfds --config.data.root={tmp_path}" in told
    data = DataConfig(source="tfds", root=str(tmp_path), cache_dir=str(tmp_path / "c"))
    assert len(sources.open_train(data)) == 8
