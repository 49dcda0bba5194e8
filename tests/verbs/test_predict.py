"""`predict` and `draw`, from the command line to the files they write, on images of every kind."""

import io
import json
import os
import re

import numpy as np
import pytest
from odd import images as odd
from odd.test_odd_images import special
from PIL import Image

import pse_jax
from pse_jax import models
from pse_jax.categories import Categories
from pse_jax.detector import Detector
from pse_jax.errors import UserError, WriteError
from pse_jax.runs import photos, predictions
from pse_jax.runs.checkpoint import save_detector
from pse_jax.runs.evaluate import evaluate
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run, open_val
from pse_jax.verbs import draw, predict
from tests import tiny, tiny_run

SIZES = [(64, 48), (48, 64), (64, 64), (128, 96), (100, 75)]  # all of one canvas, 64x64
OBJECTS = [[5, 5, 30, 30], [20, 10, 20, 25]]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a data set and a run of a tiny detector of random parameters."""
    root, rng = tmp_path_factory.mktemp("predict"), np.random.default_rng(0)
    (root / "data" / "val").mkdir(parents=True)
    rows, objects = [], []
    for i, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(root / "data" / "val" / f"{i}.png")
        rows.append({"id": 11 * i + 5, "file_name": f"{i}.png", "width": width, "height": height})
        for j, box in enumerate(OBJECTS):
            objects.append({"id": 2 * i + j, "image_id": 11 * i + 5, "bbox": box})
            objects[-1] |= {"category_id": (2, 5)[j], "area": box[2] * box[3]}
    names = zip((2, 5, 9), ("ant", "bee", "cat"), strict=True)
    content = {"images": rows, "annotations": objects}
    content["categories"] = [{"id": i, "name": name} for i, name in names]
    (root / "data" / "val.json").write_text(json.dumps(content))

    config = tiny_run.config(root / "cache")
    config.data.source, config.data.root = "coco", str(root / "data")
    config.inference.score_threshold = 0.2
    variables = tiny.make_variables(models.create(config.model, 3))
    categories = Categories((2, 5, 9), ("ant", "bee", "cat"))
    trained = ((64, 64),)
    detector = Detector(config, categories, variables, step=7, canvases_hw=trained)
    save_detector(detector, Run(root / "run"))
    return root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(root, *arguments, status=0):
    given = ["--workdir", str(root / "run"), "--noconfig.train.compilation_cache"]
    assert predict.main([*given, *map(str, arguments)]) == status


def read(folder, name):
    return json.loads((folder / name).read_text())


def rows_of(results, image_id):
    """[category, x, y, width, height], and the scores, of one image of a results file."""
    mine = [row for row in results if row["image_id"] == image_id]
    boxes = [[row["category_id"], *row["bbox"]] for row in mine]
    return np.array(boxes).reshape(-1, 5), np.array([row["score"] for row in mine])


def test_predict_the_python_api_and_eval_find_the_same(root, tmp_path, capsys):
    detector = load_run(Run(root / "run"), "latest")
    evaluate(detector, open_val(detector), tmp_path)
    evaluated = read(tmp_path, "detections_7.json")
    run(root, root / "data" / "val", "--threshold", "0", "--out", "out")
    capsys.readouterr()
    run(root, root / "data" / "val", "--threshold", "0", "--json")
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results, table = (
        read(tmp_path / "out", "detections.json"),
        read(tmp_path / "out", "images.json"),
    )
    assert [row["id"] for row in table["images"]] == [1, 2, 3, 4, 5] and not table["failed"]
    api = pse_jax.load(root / "run")
    found = api([root / "data" / "val" / row["file_name"] for row in table["images"]])
    assert len(evaluated) == len(results) == sum(map(len, found)) > 20
    for i, (row, mine, line) in enumerate(zip(table["images"], found, printed, strict=True)):
        assert (row["width"], row["height"]) == SIZES[i] and row["file_name"] == f"{i}.png"
        boxes, scores = rows_of(results, i + 1)
        theirs, their_scores = rows_of(evaluated, 11 * i + 5)
        np.testing.assert_allclose(boxes, theirs, atol=0.01)
        np.testing.assert_allclose(scores, their_scores, atol=1e-5)
        xyxy = np.concatenate([boxes[:, 1:3], boxes[:, 1:3] + boxes[:, 3:]], axis=1)
        np.testing.assert_allclose(mine.boxes_xyxy, xyxy, atol=0.01)
        np.testing.assert_allclose(mine.scores, scores, atol=1e-5)
        assert mine.category_ids.tolist() == boxes[:, 0].tolist()
        assert line["id"] == i + 1
        assert [d["bbox"] for d in line["detections"]] == boxes[:, 1:].tolist()
        assert [d["name"] for d in line["detections"]] == list(mine.names)


def test_the_best_thresholds_of_the_evaluation_are_used(root, tmp_path, capsys):
    folder, numbers = root / "run", {"thresholds": {"overall": 0.5, "per_class": {}}}
    photo = root / "data" / "val" / "0.png"
    run(root, photo)
    assert "thresholds: 0.3 for every class (no evaluation has" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no evaluation of .*run at step 7 has saved thresholds"):
        run(root, photo, "--threshold", "best")
    try:
        numbers["thresholds"]["per_class"] = {"ant": 0.25, "bee": 0.99, "cat": None}
        (folder / "eval_7.json").write_text(json.dumps(numbers))
        detector = pse_jax.load(folder)
        assert detector.best_thresholds == {2: 0.25, 5: 0.99, 9: 0.5}
        found = detector(photo)
        expected = [n for n, s in zip(found.names, found.scores, strict=True)
                    if s >= {"ant": 0.25, "bee": 0.99, "cat": 0.5}[n]]  # fmt: skip
        assert found.above(detector.best_thresholds).names == tuple(expected)
        run(root, photo)
        assert (
            "best F1 of each class in the evaluation of step 7: ant 0.25, bee 0.99, cat 0.50"
            in (capsys.readouterr().out)
        )
        written = read(tmp_path / "predictions", "detections.json")
        names = {2: "ant", 5: "bee", 9: "cat"}
        assert [names[row["category_id"]] for row in written] == expected != list(found.names)
        thresholds = [
            c["threshold"] for c in read(tmp_path / "predictions", "images.json")["categories"]
        ]
        assert thresholds == [0.25, 0.99, 0.5]
        (folder / "eval_7.json").write_text('{"AP": 0.1}')  # from before they were saved
        assert pse_jax.load(folder).thresholds is None
    finally:
        (folder / "eval_7.json").unlink(missing_ok=True)


def readable(content):
    """Whether Pillow turns it into RGB; PostScript aside."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.format != "EPS" and image.convert("RGB").size[0] > 0
    except Exception:
        return False


@pytest.mark.filterwarnings("ignore")
def test_two_hundred_hostile_images(root, tmp_path, capfd, monkeypatch):
    """Each is done, or named with its reason; nothing crashes, waits, or is lost."""
    monkeypatch.setattr(predictions, "AT_LEAST", 96)  # smaller pictures, to be done sooner
    folder = tmp_path / "in"
    folder.mkdir()
    expected = {}
    for i, (name, content, usable, _) in enumerate(odd.all_images()):
        file = f"{i:03d} {name}.jpg"
        (folder / file).write_bytes(content)
        expected[file] = usable
        if usable is False and not name.startswith("32 bits"):  # perhaps for its size alone
            expected[file] = readable(content)
    special(folder)
    expected |= dict.fromkeys(
        [f"{name}.jpg" for name in ("fifo", "device", "to_fifo", "dangling", "loop", "socket",
                                    "sparse")], False)  # fmt: skip
    good = odd.saved(odd.PHOTO, "PNG")
    (folder / "two\nlines.png").write_bytes(good)
    (folder / os.fsdecode(b"not utf-8 \xff.png")).write_bytes(good)
    (folder / ("x" * 251 + ".bmp")).write_bytes(good)  # the drawn image's name is too long
    (folder / "1x5000.tif").write_bytes(odd.saved(Image.new("CMYK", (1, 5000)), "TIFF"))
    for name in ("two\nlines.png", os.fsdecode(b"not utf-8 \xff.png"), "1x5000.tif"):
        expected[name] = True
    if os.geteuid():
        (folder / "secret.png").write_bytes(good)
        (folder / "secret.png").chmod(0)
        expected["secret.png"] = False
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.jpg").write_text("not an image")
    outside = {name: tmp_path / name for name in ("missing.jpg", "notes.jpg", "empty", "y" * 300)}
    expected |= dict.fromkeys(
        ("missing.jpg", "notes.jpg", str(tmp_path / "empty"), "y" * 300), False
    )
    assert len(expected) > 300

    run(root, folder, *outside.values(), "--out", "out", status=1)
    table = read(tmp_path / "out", "images.json")
    done = {row["file_name"]: row for row in table["images"]}
    failed = {row["file_name"]: row["failure"] for row in table["failed"]}
    long = "x" * 251 + ".bmp"
    assert long in done and "File name too long" in failed.pop(long)
    assert {name for name, usable in expected.items() if usable} <= done.keys()
    assert {name for name, usable in expected.items() if usable is False} <= failed.keys()
    assert (done.keys() | failed.keys()) == expected.keys() | {long}
    assert not done.keys() & failed.keys()
    assert all(failed.values())
    for name, row in done.items():
        if name != long:
            drawn = name if name.endswith((".jpg", ".png")) else f"{name}.png"
            with Image.open(tmp_path / "out" / drawn) as picture:
                assert max(picture.size) >= 96, name
        assert {"width", "height", "id", "path"} <= row.keys()
    assert failed["fifo.jpg"].endswith("it is a FIFO (named pipe), not a regular file")
    assert failed["missing.jpg"].endswith("No such file or directory")
    assert failed["notes.jpg"] == "it is not an image, or in a format that Pillow does not read"
    assert failed[str(tmp_path / "empty")].startswith("this folder holds no images")
    bombs = [why for name, why in failed.items() if "of 65535 px" in name or "10^10 px" in name]
    assert len(bombs) == 2 and all(
        why.endswith("make it smaller, or cut it into parts") for why in bombs
    )
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == len(expected) + 1 + 3 and "Traceback" not in said.err
    assert all(re.search(r"  failed: \S|\d+x\d+  ", line) for line in lines[1:-2])
    assert "folder skipped (--recursive searches it): " in said.err


def test_names_and_folders(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        ".hidden.png",
        "notes.txt",
        "sub/a.png",
        "sub/deep/c.gif",
        "out/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    listing = photos.photos_of([tmp_path, tmp_path / "a.png", tmp_path / "notes.txt"])
    assert [photo.name for photo in listing.photos] == ["a.png", "b.JPG", "notes.txt"]
    assert listing.others == [str(tmp_path / "notes.txt")]
    assert sorted(listing.folders) == [str(tmp_path / "out"), str(tmp_path / "sub")]
    listing = photos.photos_of([tmp_path], recursive=True, but=tmp_path / "out")
    assert [p.name for p in listing.photos] == ["a.png", "b.JPG", "sub/a.png", "sub/deep/c.gif"]
    names = ["a.png", "A.PNG", "a.tif", "a.tif.png", "d/a.png", "a.jpeg", "a.png"]
    assert photos.free_names(names) == ["a.png", "A-2.PNG", "a.tif.png", "a.tif-2.png", "d/a.png",
                                        "a.jpeg", "a-3.png"]  # fmt: skip


def test_photos_are_never_replaced_by_drawn_images(root, tmp_path):
    (tmp_path / "p").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "p" / "a.png")
    before = (tmp_path / "p" / "a.png").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "p")
    for given in ("p", "link"):
        with pytest.raises(
            WriteError, match=r"the drawn image would replace .*a\.png; give another"
        ):
            run(root, tmp_path / given, "--out", "p")
    assert (tmp_path / "p" / "a.png").read_bytes() == before
    run(root, tmp_path / "p", "--out", "p", "--no-images")
    assert sorted(file.name for file in (tmp_path / "p").iterdir()) == [
        "a.png", "detections.json", "images.json"]  # fmt: skip


def test_ctrl_c_leaves_what_is_done(root, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "CHUNK", 2)
    prepare = Detector.prepare

    def interrupted(detector, path):
        if path.name == "3.png":
            raise KeyboardInterrupt
        return prepare(detector, path)

    monkeypatch.setattr(Detector, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(root, root / "data" / "val", "--no-images")
    table = read(tmp_path / "predictions", "images.json")
    assert [row["file_name"] for row in table["images"]] == ["0.png", "1.png"]
    assert {row["image_id"] for row in read(tmp_path / "predictions", "detections.json")} == {1, 2}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.png"], "give either --workdir, a run's folder, or --detector"),
        (["a.png", "--workdir", "x", "--detector", "y"], "give either --workdir"),
        (["--workdir", "x"], "the following arguments are required: IMAGE_OR_FOLDER"),
        (["a.png", "--workdir", "x", "--threshold", "7"], "'7' is neither a score from 0 to 1 nor"),
        (["a.png", "--workdir", "x", "--threshold", "nan"], "'nan' is neither a score"),
        (["a.png", "--detector", "torchvision_fcos_50"], "did you mean torchvision_fcos_r50?"),
        (["a.png", "--workdir", "none"], "there is no none"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError) as caught:
        predict.main(arguments)
    assert message in str(caught.value)


def test_draw_puts_predictions_beside_the_ground_truth(root, tmp_path, capsys):
    flags = ["--workdir", str(root / "run"), "--noconfig.train.compilation_cache"]
    assert draw.main([*flags, "--out", "sheet.png", "--count", "3", "--threshold", "0.5"]) == 0
    assert "drew 3 images to sheet.png, with scores from 0.5 for every class; dashed: ground" in (
        capsys.readouterr().out
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 800 < sheet.width <= 2400 and sheet.height > 300
    photo = root / "data" / "val" / "3.png"
    assert draw.main([*flags, str(photo), "--out", "full"]) == 0
    with Image.open(tmp_path / "full" / "001_3.png.png") as picture:
        assert picture.width == 480 and 360 < picture.height < 400
    with pytest.raises(UserError, match=r"none.jpg cannot be read: No such file"):
        draw.main([*flags, "none.jpg", "--out", "x.png"])
    with pytest.raises(UserError, match="unknown image format"):
        draw.main([*flags, "--out", "x.exe"])


def test_the_configuration_can_be_changed(root):
    detector = pse_jax.load(root / "run", overrides=["--config.inference.nms_threshold=0.4"])
    assert detector.config.inference.nms_threshold == 0.4
