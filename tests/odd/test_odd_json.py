"""Annotations and detections with one odd value or byte: taken or refused, never a traceback."""

import codecs
import copy
import json
import math
import os
import re
import sys

import pytest
from coco_files import good, write

from pse_jax.__main__ import main
from pse_jax.data import coco
from pse_jax.errors import UserError
from pse_jax.evaluation.coco import evaluate_coco

DETECTIONS = [
    {"image_id": 10, "category_id": 7, "bbox": [8, 4, 40, 20], "score": 0.9},
    {"image_id": 20, "category_id": 3, "bbox": [1, 2, 30, 40.5], "score": 0.25},
]
ODD = {
    "10^400": 10**400,
    "-10^400": -(10**400),
    "10^30": 10**30,
    "2^63": 2**63,
    "2^63-1": 2**63 - 1,
    "2^31": 2**31,
    "1e308": 1e308,
    "5e-324": 5e-324,
    "NaN": math.nan,
    "infinity": math.inf,
    "true": True,
    "null": None,
    "minus one": -1,
    "one and a half": 1.5,
    "text": "7",
    "no text": "",
    "NUL": "a\0b",
    "surrogate": "\ud800.jpg",
    "long text": "x" * 100_000,
    "list": [],
    "object": {},
    "deep": json.loads("[" * 200 + "]" * 200),
}


def whole(value):
    return type(value) is int and -(2**63) <= value < 2**63


def number(low, high):
    return lambda value: type(value) in (int, float) and low <= value <= high


def text(value):
    return isinstance(value, str) and 0 < len(value) <= 4096 and not re.search("[\0\ud800]", value)


def side(value):
    return type(value) in (int, float) and 1 <= value <= 2**24 and value == int(value)


# Where a value goes, and which are taken there: stated here once more, independently.
ANNOTATION_PLACES = {
    ("images", 0, "id"): whole,  # an image without annotations
    ("images", 0, "width"): side,
    ("images", 0, "height"): side,
    ("images", 0, "file_name"): text,
    ("categories", 0, "name"): text,
    ("annotations", 0, "id"): lambda value: True,  # not used
    ("annotations", 0, "image_id"): lambda value: False,  # there are no such images
    ("annotations", 0, "category_id"): lambda value: False,
    ("annotations", 0, "bbox"): lambda value: False,
    ("annotations", 0, "bbox", 0): number(-1e9, 1e9),
    ("annotations", 0, "bbox", 3): number(0, 1e9),
    ("annotations", 0, "area"): number(0, 1e18),
    ("annotations", 0, "iscrowd"): lambda value: value is True,
    ("annotations",): lambda value: value == [],
    ("annotations", 0): lambda value: False,
}
DETECTION_PLACES = {
    (0, "image_id"): lambda value: False,
    (0, "category_id"): lambda value: False,
    (0, "score"): number(-1e30, 1e30),
    (0, "bbox", 1): number(-1e9, 1e9),
    (0, "bbox", 2): number(0, 1e9),
    (0, "bbox"): lambda value: False,
    (0,): lambda value: False,
}


def put(content, place, value):
    content = copy.deepcopy(content)
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return content


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("json"))


def run(arguments, capsys):
    """The last lines of a command, which has failed with a message."""
    code = main(arguments)
    error = capsys.readouterr().err
    assert "Traceback" not in error and len(error) < 2000
    return code, error


@pytest.mark.parametrize("place", ANNOTATION_PLACES, ids=lambda p: "-".join(map(str, p)))
def test_annotations_with_an_odd_value(tmp_path, files, capsys, place):
    file = tmp_path / "a.json"
    flags = ["check", "--annotations", str(file), "--images", str(files[1])]
    wrong, taken = [], None
    for name, value in ODD.items():
        file.write_text(json.dumps(put(good(), place, value)))
        try:
            dataset = coco.load(file, files[1], require_images=False)
            taken = True
            found = coco.load_results(DETECTIONS, dataset)
            numbers = evaluate_coco(dataset, found, areas=False)
            assert 0 <= numbers["AP"] <= 1 or math.isnan(numbers["AP"])
        except UserError as error:
            assert str(file) in str(error) and len(str(error)) < 1000
            if taken is not False:  # the first that is refused: the command says the same
                code, message = run(flags, capsys)
                assert code == 2 and str(error).splitlines()[0] in message
            taken = False
        if taken != ANNOTATION_PLACES[place](value):
            wrong.append((name, taken))
    assert not wrong


@pytest.mark.parametrize("place", DETECTION_PLACES, ids=lambda p: "-".join(map(str, p)))
def test_detections_with_an_odd_value(tmp_path, files, capsys, place):
    file = tmp_path / "results.json"
    truth = coco.load_ground_truth(files[0])
    flags = ["analyze", "--annotations", str(files[0]), "--detections", str(file)]
    wrong, taken = [], None
    for name, value in ODD.items():
        file.write_text(json.dumps(put(DETECTIONS, place, value)))
        try:
            found = coco.load_results(file, truth)
            taken = True
            assert 0 <= evaluate_coco(truth, found, areas=False)["AP"] <= 1
        except UserError as error:
            assert str(file) in str(error) and "detections[0]" in str(error)
            if taken is not False:
                code, message = run(flags, capsys)
                assert code == 2 and str(error).splitlines()[0] in message
            taken = False
        if taken != DETECTION_PLACES[place](value):
            wrong.append((name, taken))
    assert not wrong


def test_there_are_enough_of_them():
    assert len(ODD) * (len(ANNOTATION_PLACES) + len(DETECTION_PLACES)) + len(BYTES) >= 129


WHOLE = json.dumps(good()).encode()
CUTS = range(0, 100, 9)
BYTES = {  # of annotations: the file, and part of the message or None if it is taken
    **{f"cut at {k}%": (WHOLE[: len(WHOLE) * k // 100], "is not valid JSON") for k in CUTS},
    "byte order mark": (codecs.BOM_UTF8 + WHOLE, None),
    "UTF-16": (WHOLE.decode().encode("utf-16"), None),
    "UTF-16 without a mark": (WHOLE.decode().encode("utf-16-le"), None),
    "UTF-32": (WHOLE.decode().encode("utf-32"), None),
    "half of UTF-16": (WHOLE.decode().encode("utf-16")[:-301], "is not valid JSON"),
    "Latin-1": (WHOLE.replace(b"kite", b"k\xefte"), "is not valid JSON ('utf-8' codec"),
    "surrogate in UTF-8": (WHOLE.replace(b"kite", b"\xed\xa0\x80"), "half a surrogate pair"),
    "NUL bytes": (bytes(1000), "is not valid JSON"),
    "two files": (WHOLE * 2, "is not valid JSON (Extra data"),
    "deep lists": (b"[" * 100_000, "is nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "is nested too deeply"),
    "deep and closed": (b"[" * 500 + b"]" * 500, "is a list, as detections are"),
    "a key twice": (WHOLE.replace(b'"images"', b'"images": [], "images"'), "key 'images' twice"),
    "a key of a row twice": (WHOLE.replace(b'"area"', b'"bbox": [], "bbox"'), "key 'bbox' twice"),
    "5000 digits": (WHOLE.replace(b"800", b"8" * 5000), "Exceeds the limit (4300 digits)"),
    "4000 digits": (WHOLE.replace(b"800", b"8" * 4000), "annotations[0] (id 1) has area 888888"),
    "1e999": (WHOLE.replace(b"800", b"1e999"), "has area inf"),
    "comments": (b"// mine\n" + WHOLE, "is not valid JSON"),
    "a trailing comma": (WHOLE[:-1] + b",}", "is not valid JSON"),
}  # fmt: skip


def test_files_with_odd_bytes(tmp_path, files, capsys):
    file = tmp_path / "a.json"
    (tmp_path / "results.json").write_text(json.dumps(DETECTIONS))
    for name, (content, message) in BYTES.items():
        file.write_bytes(content)
        if message is None:
            assert len(coco.load(file, files[1])) == 3, name
            continue
        for flags in (
            ["check", "--annotations", str(file), "--images", str(files[1])],
            ["analyze", "--annotations", str(file), "--detections", str(tmp_path / "results.json")],
        ):
            code, error = run(flags, capsys)
            assert code == 2 and str(file) in error and message in error, (name, error)


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero"])
def test_a_json_file_that_is_no_file_is_not_waited_for(tmp_path, files, capsys, kind):
    path = tmp_path / "a.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    for flags in (
        ["check", "--annotations", str(path), "--images", str(files[1])],
        ["analyze", "--annotations", str(files[0]), "--detections", str(path)],
    ):
        code, error = run(flags, capsys)
        assert code == 2 and f"{path} cannot be read: it is a" in error


def test_both_data_sets_are_read_though_the_first_is_broken(tmp_path, capsys):
    write(tmp_path, "{")
    write(tmp_path, "[1", name="val.json")
    config = tmp_path / "experiment.py"
    config.write_text(
        "from pse_jax.config import Config, DataConfig\n"
        "def get_config():\n"
        "    names = dict(train_annotations='instances.json', val_annotations='val.json')\n"
        "    return Config(data=DataConfig(train_images='images', val_images='images', **names))\n"
    )
    code, error = run(["check", "--config", str(config), f"--config.data.root={tmp_path}"], capsys)
    assert code == 2 and "instances.json is not valid" in error and "val.json is not valid" in error


def test_ids_of_64_bits_are_evaluated(files):
    content = good()
    for old, new in {10: -(2**63), 20: 2**63 - 1}.items():
        for row in content["images"]:
            row["id"] = new if row["id"] == old else row["id"]
        for row in content["annotations"]:
            row["image_id"] = new if row["image_id"] == old else row["image_id"]
    truth = coco.load_ground_truth(content)
    rows = [{k: row[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0}
            for row in content["annotations"] if not row.get("iscrowd")]  # fmt: skip
    assert evaluate_coco(truth, coco.load_results(rows, truth))["AP"] == 1
    assert sys.maxsize == truth.image_ids[-1]
