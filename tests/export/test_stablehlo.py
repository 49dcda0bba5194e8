"""The StableHLO program against `Detector`, run as its example does: without this package."""

import dataclasses
import datetime
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax import models
from pse_jax.categories import Categories
from pse_jax.config import Config, ModelConfig
from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import bundle, program, stablehlo
from pse_jax.postprocess import PaddedDetections
from tests import tiny, tiny_run

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "run_stablehlo.py"
SIZES = ((60, 90), (90, 60), (64, 64), (200, 150), (33, 20), (1, 1), (97, 1000))  # hw
CATEGORIES = Categories((2, 5, 900), ("ant", "bee", "a cat"))


def make_detector(resize="detectron2", side=32, inference=None, **model):
    config = tiny_run.config(Path("unused"))
    config.model = dataclasses.replace(config.model, **model)
    config.inference = dataclasses.replace(config.inference, **(inference or {}))
    config.data.short_side = config.data.long_side = side
    config.data.resize = resize
    variables = tiny.make_variables(models.create(config.model, 3))
    return Detector(config, CATEGORIES, variables, step=7)


def write(detector, folder):
    folder.mkdir()
    artefacts = [stablehlo.make(detector)]
    bundle.write(detector, folder, artefacts, command="python -m pse_jax export", source="a run")


def images():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*hw, 3), np.uint8) for hw in SIZES]


@pytest.fixture(scope="module")
def detector():
    return make_detector()


def export_to(folder, detector):
    write(detector, folder / "model")
    for i, image in enumerate(images()):
        np.save(folder / f"{i}.npy", image)
    return sorted(folder.glob("*.npy"))


def assert_as_the_detector_says(lines, detector):
    """Lines of the example, in order: file, name, score, box."""
    names = [name.replace(" ", "_") for name in detector.categories.names]
    words = [
        line.replace(name, names[i])
        for line in lines
        for i, name in enumerate(detector.categories.names)
        if f".npy {name} 0." in line
    ]
    assert len(words) == len(lines)
    cells = [line.split() for line in words]
    files = sorted({cell[0] for cell in cells})
    assert files == [f"{i}.npy" for i in range(len(files))]
    for i, file in enumerate(files):
        expected = detector(images()[i])
        rows = [cell for cell in cells if cell[0] == file]
        assert len(rows) == len(expected) > 0
        assert [row[1] for row in rows] == [name.replace(" ", "_") for name in expected.names]
        numbers = np.array([row[2:] for row in rows], float)
        np.testing.assert_allclose(numbers[:, 0], expected.scores, atol=1e-5)
        np.testing.assert_allclose(numbers[:, 1:], expected.boxes_xyxy, atol=0.01)
    return len(files)


def test_seven_images_of_different_sizes_in_one_call(detector, tmp_path, monkeypatch, capsys):
    """The same boxes as the Python API to 0.01 px and scores to 1e-5."""
    assert program.canvases(32, 32, "detectron2") == ((32, 32),)
    files = export_to(tmp_path, detector)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path / "model"), *map(str, files)])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pse_jax", None)  # `import pse_jax` fails
        runpy.run_path(str(EXAMPLE))
    lines = capsys.readouterr().out.splitlines()
    assert assert_as_the_detector_says(lines, detector) == 7


@pytest.mark.parametrize("trained", [(), ((64, 96), (96, 96), (32, 64))])
def test_every_image_goes_to_the_canvas_that_the_detector_takes(monkeypatch, trained):
    """With a network that tells what it is shown: one batch on all canvases, to the bit."""

    def told(config, classes, variables, batch):
        image, size = batch["image"], batch["size_hw"]
        shape = jnp.tile(jnp.array(image.shape[1:3]), (len(image), 1))
        total = image.astype(jnp.int32).sum(axis=(1, 2, 3)) % 4093  # exact in float32
        boxes = jnp.concatenate([shape, size], axis=1).astype(jnp.float32)[:, None]
        labels, valid = jnp.ones((len(image), 1), jnp.int32), batch["image_valid"][:, None]
        found = PaddedDetections(boxes, total.astype(jnp.float32)[:, None], labels, valid)
        pad = config.inference.max_detections - 1  # an empty slot first
        empty = lambda x: jnp.pad(x, [(0, 0), (pad, 0)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
        return jax.tree.map(empty, found)

    monkeypatch.setattr(program, "detect", told)
    detector = make_detector("fcos", 64, {"max_detections": 2})
    detector.config.data.long_side = 96
    detector = dataclasses.replace(detector, canvases_hw=trained)
    rng = np.random.default_rng(2)
    sizes = [(h, w) for h in (1, 20, 64, 65, 150) for w in (1, 16, 40, 96, 160)] + [
        (151, 9),
        (9, 0),
    ]
    batch = rng.integers(0, 256, (len(sizes), 150, 160, 3), np.uint8)
    found = call(detector, batch, sizes)
    canvases = set()
    for i, (h, w) in enumerate(sizes):
        if (h, w) in ((151, 9), (9, 0)) or max(h, w) > program.MOST_ELONGATED * min(h, w):
            assert found["count"][i] in (-1, 1)
            continue
        one = detector.prepare(batch[i, :h, :w])
        assert found["count"][i] == 1 and found["category_ids"][i].tolist() == [5, -1]
        box = [*one.canvas.shape[:2], *one.resized_hw]
        np.testing.assert_array_equal(found["boxes_xyxy"][i, 0], box, str((h, w)))
        assert found["scores"][i, 0] == one.canvas.astype(int).sum() % 4093
        canvases.add(one.canvas.shape)
    assert canvases >= {(*canvas, 3) for canvas in trained[:2]}
    assert len(canvases) >= (3 if trained else 5) and found["count"][-2:].tolist() == [-1, -1]


def call(detector, batch, sizes):
    config = program.settled(detector.config)
    ids, trained = detector.categories.ids, detector.canvases_hw
    run = jax.jit(lambda *args: program.run(config, ids, trained, *args))
    return jax.device_get(run(detector.variables, batch, np.array(sizes, np.int32)))


@pytest.mark.slow
def test_every_way_to_configure_a_detector_reaches_the_program():
    """Quality branch, ReLU distances, mmdet's resize, inclusive boxes, clipping after NMS."""
    detector = make_detector(
        "mmdet", 32, quality="centerness", distances="relu", grid="torchvision",
        channel_order="bgr", inference={"inclusive_boxes": True, "clip_first": False,
        "sqrt_score": True, "score_threshold": 0.3, "max_detections": 30},
    )  # fmt: skip
    assert program.canvases(32, 32, "mmdet") == ((32, 32),)
    rng = np.random.default_rng(1)
    batch = rng.integers(0, 256, (4, 50, 70, 3), np.uint8)
    sizes = [(50, 70), (41, 31), (51, 70), (0, 5)]
    found = call(detector, batch, sizes)
    for i, (h, w) in enumerate(sizes[:2]):
        expected = detector(batch[i, :h, :w])
        count = found["count"][i]
        assert count == len(expected) > 0
        np.testing.assert_allclose(found["boxes_xyxy"][i, :count], expected.boxes_xyxy, atol=0.01)
        np.testing.assert_allclose(found["scores"][i, :count], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(found["category_ids"][i, :count], expected.category_ids)
        assert (found["category_ids"][i, count:] == -1).all()
        assert not found["boxes_xyxy"][i, count:].any()
    assert found["count"][2:].tolist() == [-1, -1]  # larger than the array; nothing


@pytest.mark.parametrize("rule", ["fcos", "detectron2", "torchvision"])
@pytest.mark.parametrize("sides", [(800, 1333), (128, 128)])
def test_every_image_that_is_promised_a_canvas_has_one(rule, sides, rng):
    from pse_jax.data.padding import canvas_hw
    from pse_jax.data.transforms import resized_hw

    for trained in ((), ((sides[0], 1088 if sides[0] == 800 else 96),)):
        choices = program.canvases(*sides, rule, trained)
        assert len(choices) <= 13 and {*trained} <= {*choices}
        for height, width in rng.integers(1, 6000, (2000, 2)).tolist():
            if max(height, width) <= program.MOST_ELONGATED * min(height, width):
                hw = resized_hw(height, width, *sides, rule)
                assert canvas_hw(hw, max(sides), trained) in choices


def test_auto_is_exported_as_float32_and_bfloat16_as_it_is():
    for given, exported in (("auto", "float32"), ("bfloat16", "bfloat16")):
        config = Config(model=ModelConfig(dtype=given))
        assert program.settled(config).model.dtype == exported


def test_category_ids_that_do_not_fit_are_refused(detector):
    large = dataclasses.replace(detector, categories=Categories((1, 2, 2**31), ("a", "b", "c")))
    with pytest.raises(UserError, match=r"1\.\.2147483648 do not fit in 32 bits"):
        stablehlo.make(large)


@pytest.mark.parametrize(
    "day, later",
    [("2026-01-31", "2026-07-31"), ("2026-08-31", "2027-02-28"), ("2026-12-05", "2027-06-05")],
)
def test_half_a_year_later(day, later):
    assert stablehlo.in_half_a_year(datetime.date.fromisoformat(day)).isoformat() == later


@pytest.mark.slow
def test_in_an_environment_of_jax_and_numpy_alone(tmp_path):
    """Installs them from the package index, and compiles for three canvases: minutes."""
    detector = make_detector(side=64)
    assert len(program.canvases(64, 64, "detectron2")) == 3
    images = export_to(tmp_path, detector)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    wanted = [f"jax=={jax.__version__}", f"numpy=={np.__version__}", "flatbuffers"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    for count in (1, 7):
        command = [python, "-I", EXAMPLE, tmp_path / "model", *images[:count]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert assert_as_the_detector_says(done.stdout.splitlines(), detector) == count
