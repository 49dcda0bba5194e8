"""The generated data set: same bytes every time, boxes that fit, and everything it promises."""

import dataclasses
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pse_jax.config import Config
from pse_jax.config_checks import validate
from pse_jax.data import canvas, scene, shapes, things
from pse_jax.data.shapes import ShapesConfig, write_shapes
from pse_jax.errors import ConfigError, WriteError

TINY = ShapesConfig(train_images=10, val_images=4, image_size=64, crowds=0.5, seed=3)


def file_hashes(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def make_thing(name="block", **changes):
    fields = dict(name=name, a=20.0, b=10.0, angle=0.0, feeler=0.0, lean=0.0, softness=1.0)
    fields |= dict(colour=np.ones(3, np.float32), accent=np.zeros(3, np.float32), pattern="plain")
    return things.Thing(**(fields | changes))


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return write_shapes(TINY, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture(scope="module")
def sample():
    """Records and annotations of 150 images, without files."""
    config = ShapesConfig(image_size=96)
    return [shapes.draw(config, "train", i)[1:] for i in range(150)]


def test_same_bytes_for_any_number_of_processes(tiny_folder, tmp_path):
    again = write_shapes(TINY, tmp_path, workers=3)
    assert again.name == tiny_folder.name
    assert file_hashes(again) == file_hashes(tiny_folder)
    assert len(file_hashes(again)) == 10 + 4 + 2 + 1


def test_every_image_is_its_own_and_does_not_depend_on_how_many_there_are():
    def pixels(config, split, index):
        return shapes.draw(config, split, index)[0].tobytes()

    first = pixels(TINY, "train", 0)
    assert first == pixels(dataclasses.replace(TINY, train_images=99), "train", 0)
    assert first != pixels(TINY, "train", 1)
    assert first != pixels(TINY, "val", 0)
    assert first != pixels(dataclasses.replace(TINY, seed=4), "train", 0)


def test_a_second_call_writes_nothing(tiny_folder, monkeypatch):
    monkeypatch.setattr(shapes, "_write", lambda *a: pytest.fail("wrote again"))
    assert write_shapes(TINY, tiny_folder.parent) == tiny_folder


def test_a_full_disk_half_way_is_one_message_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def draw_until_5(config, split, index):
        if index == 5:
            raise OSError(28, "No space left on device")
        return draw(config, split, index)

    draw = shapes.draw
    message = r"shapes-v.*: cannot write the data set: No space left on device; nothing is left"
    with monkeypatch.context() as patch, pytest.raises(WriteError, match=message):
        patch.setattr(shapes, "draw", draw_until_5)
        write_shapes(TINY, tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []
    assert (write_shapes(TINY, tmp_path, workers=1) / "annotations/instances_val.json").exists()


def test_a_full_disk_in_a_process_that_draws_is_the_same_message(tmp_path, monkeypatch):
    """A limit on the size of files, of 0 bytes, stands for the full disk."""
    popen = subprocess.Popen

    def limited(command, **more):
        return popen(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], **more)

    monkeypatch.setattr(subprocess, "Popen", limited)
    with pytest.raises(WriteError, match=r"cannot write the data set: File too large; nothing is"):
        write_shapes(TINY, tmp_path, workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_half_way_nothing_looks_finished_and_a_rerun_succeeds(tmp_path):
    config = dataclasses.replace(TINY, train_images=150)
    code = "import json, sys; from pse_jax.data.shapes import ShapesConfig, write_shapes\n"
    code += "write_shapes(ShapesConfig(**json.loads(sys.argv[1])), sys.argv[2], workers=2)"
    knobs = json.dumps(dataclasses.asdict(config))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, knobs, str(tmp_path)], env=env)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/train/*.jpg")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / shapes.folder_name(config)).exists()
    folder = write_shapes(config, tmp_path)
    assert len(list(folder.glob("train/*.jpg"))) == 150


def test_two_that_start_together_both_get_the_whole(tiny_folder, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(write_shapes, TINY, tmp_path, workers=1) for _ in range(2)]
        folders = [call.result() for call in calls]
    assert folders == [tmp_path / shapes.folder_name(TINY)] * 2
    assert file_hashes(folders[0]) == file_hashes(tiny_folder)
    assert [p.name for p in tmp_path.iterdir()] == [tiny_folder.name]


def test_folder_name_says_version_size_and_count_and_changes_with_every_knob():
    name = shapes.folder_name(ShapesConfig())
    assert name.startswith(f"shapes-v{shapes.VERSION}-128px-3000-")
    for field in dataclasses.fields(ShapesConfig):
        changed = dataclasses.replace(ShapesConfig(), **{field.name: field.default + 1})
        assert shapes.folder_name(changed) != name, field.name


@pytest.mark.parametrize(
    "wrong", [{"clutter": 1.5}, {"empty": -0.1}, {"smallest": 0.9}, {"image_size": 8}]
)
def test_a_wrong_knob_is_named(wrong):
    config = Config()
    config.data.shapes = ShapesConfig(**wrong)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate(config)


def test_drawing_processes_start_without_jax():
    code = "import sys; import pse_jax.data.shapes; sys.exit('jax' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_box_of_an_upright_block_by_eye():
    paper = canvas.Canvas(100, 120, 0.0)
    at = canvas.place(paper, make_thing("block"), (50.0, 40.0))
    np.testing.assert_allclose(at.box_xywh, (30, 30, 40, 20), atol=0.05)
    assert at.area == pytest.approx(40 * 20, rel=0.02)
    at = canvas.place(paper, make_thing("block"), (10.0, 40.0))  # a quarter is outside
    np.testing.assert_allclose(at.box_xywh, (0, 30, 30, 20), atol=0.05)
    assert paper.visible(at.cover, at.y0, at.x0) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("name", things.CLASSES)
@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_tight_around_a_finely_sampled_outline(name, seed):
    rng = np.random.default_rng(seed)
    feeler = 12.0 if things.CLASSES[name].feelers and seed % 2 else 0.0
    angle = rng.uniform(0, math.tau)
    b = 20.0 * rng.uniform(*things.CLASSES[name].slender)
    thing = make_thing(name, b=b, angle=angle, feeler=feeler, lean=4.0, softness=1.0 + seed)
    centre = rng.uniform(0, 96), rng.uniform(0, 72)
    at = canvas.place(canvas.Canvas(72, 96, 0.0), thing, centre)

    fine = 8  # samples a pixel
    x = ((np.arange(96 * fine) + 0.5) / fine)[None]
    y = ((np.arange(72 * fine) + 0.5) / fine)[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    u = cos * (x - centre[0]) + sin * (y - centre[1])
    v = cos * (y - centre[1]) - sin * (x - centre[0])
    inside = thing.distance(u.astype(np.float32), v.astype(np.float32)) < 0
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    left, right = columns[0] / fine, (columns[-1] + 1) / fine
    top, bottom = rows[0] / fine, (rows[-1] + 1) / fine
    bx, by, bw, bh = at.box_xywh
    np.testing.assert_allclose((bx, by, bx + bw, by + bh), (left, top, right, bottom), atol=0.75)
    assert at.area == pytest.approx(inside.sum() / fine**2, rel=0.1, abs=8)


def test_what_is_painted_first_stays_on_top():
    paper = canvas.Canvas(4, 4, 0.0)
    half = np.ones((4, 2), np.float32)
    red, blue = np.float32([1, 0, 0]), np.float32([0, 0, 1])
    paper.paint(half, red, 0, 0)
    whole = np.ones((4, 4), np.float32)
    assert paper.visible(whole, 0, 0) == 0.5
    assert paper.visible(whole, 0, 2) == 0.5  # the right half of it lies outside
    paper.shade(whole, 0.5, 0, 0)
    paper.paint(whole, blue, 0, 0)
    np.testing.assert_array_equal(paper.rgb[0], [red, red, 0.5 * blue, 0.5 * blue])
    assert paper.visible(whole, 0, 0) == 0.0


def test_run_lengths_by_eye_and_by_pycocotools():
    assert scene._run_lengths(np.array([[0, 1, 1], [0, 0, 1]], bool)) == [2, 1, 1, 2]
    assert scene._run_lengths(np.array([[1, 0]], bool)) == [0, 1, 1]
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    rle = coco_mask.frPyObjects({"counts": scene._run_lengths(mask), "size": [7, 5]}, 7, 5)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)


def test_boxes_lie_inside_and_nothing_hidden_is_annotated(sample):
    for image, annotations in sample:
        for a in annotations:
            x, y, w, h = a["bbox"]
            assert x >= 0 and y >= 0 and min(w, h) >= (0 if a["iscrowd"] else scene.MIN_SIDE)
            assert x + w <= image["width"] + 0.02 and y + h <= image["height"] + 0.02
            assert 0 < a["area"] <= (w + 2) * (h + 2)
            assert a["iscrowd"] or a["visible"] >= scene.MIN_VISIBLE - 0.001


def test_the_promised_ingredients_are_there(sample):
    images, annotations = zip(*sample, strict=True)
    flat = [a for per_image in annotations for a in per_image]
    normal = [a for a in flat if not a["iscrowd"]]
    assert {np.sign(i["width"] - i["height"]) for i in images} == {-1, 0, 1}
    assert {max(i["width"], i["height"]) for i in images} == {96}
    assert {a["category_id"] for a in flat} == {1, 3, 4, 7, 11, 18}
    assert 1.5 < len(normal) / len(sample) < 4
    assert max(map(len, annotations)) <= ShapesConfig().max_objects + 1  # and a crowd
    assert 2 <= sum(not a for a in annotations) <= 20  # empty
    assert 3 <= len(flat) - len(normal) <= 20  # crowds
    assert 0.05 < np.mean([a["visible"] < 0.8 for a in normal]) < 0.6  # occluded or cut off
    sides = np.array([max(a["bbox"][2:]) for a in normal]) / 96
    assert np.mean(sides < 0.35) > 0.15 and np.mean(sides > 0.6) > 0.1  # several scales
    fill = [a["area"] / (a["bbox"][2] * a["bbox"][3]) for a in normal]
    assert np.mean(np.array(fill) < 0.55) > 0.1  # boxes much larger than what is in them


def test_knobs_at_zero_leave_their_thing_out():
    config = ShapesConfig(image_size=64, occlusion=0.0, bars=0.0, crowds=0.0)
    config = dataclasses.replace(config, empty=0.0, rows=0.0)
    annotations = [a for i in range(40) for a in shapes.draw(config, "val", i)[2]]
    assert not any(a["iscrowd"] for a in annotations)
    assert min(a["visible"] for a in annotations) >= scene.CLEAR_VISIBLE - 0.001
    config = dataclasses.replace(config, empty=1.0)
    assert all(shapes.draw(config, "val", i)[2] == [] for i in range(10))


def test_pycocotools_reads_it_and_the_truth_scores_one(tiny_folder, capsys):
    truth = COCO(str(tiny_folder / "annotations" / "instances_train.json"))
    normal = truth.loadAnns(truth.getAnnIds(iscrowd=False))
    crowds = truth.loadAnns(truth.getAnnIds(iscrowd=True))
    assert crowds and len(truth.getImgIds()) == 10 and len({a["id"] for a in normal}) == len(normal)
    for crowd in crowds:
        mask = truth.annToMask(crowd)
        assert mask.sum() == crowd["area"]
        assert coco_mask.toBbox(truth.annToRLE(crowd)).tolist() == crowd["bbox"]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1} for a in normal]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_files_are_what_the_annotations_say(tiny_folder):
    about = json.loads((tiny_folder / "dataset.json").read_text())
    assert about["version"] == shapes.VERSION and about["knobs"] == dataclasses.asdict(TINY)
    ids = []
    for split in shapes.SPLITS:
        content = json.loads((tiny_folder / f"annotations/instances_{split}.json").read_text())
        ids += [image["id"] for image in content["images"]]
        for image in content["images"]:
            with Image.open(tiny_folder / split / image["file_name"]) as file:
                assert file.format == "JPEG" and file.size == (image["width"], image["height"])
    assert len(set(ids)) == len(ids) == 14
