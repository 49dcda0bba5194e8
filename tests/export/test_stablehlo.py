"""The StableHLO program against `Detector`, run as its example does: without this package."""

import dataclasses
import datetime
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import jax
import numpy as np
import pytest

from pse_jax import models
from pse_jax.categories import Categories
from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import bundle, program, stablehlo
from tests import tiny, tiny_run

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "run_stablehlo.py"
SIZES = ((60, 90), (90, 60), (64, 64), (200, 150), (33, 20), (1, 1), (97, 1000))  # hw
CATEGORIES = Categories((2, 5, 900), ("ant", "bee", "a cat"))


def make_detector(resize="detectron2", side=64, inference=None, **model):
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


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write(detector, folder / "model")
    for i, image in enumerate(images()):
        np.save(folder / f"{i}.npy", image)
    return folder


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
    for i, file in enumerate(files):
        expected = detector(images()[i])
        rows = [cell for cell in cells if cell[0] == file]
        assert len(rows) == len(expected) > 0
        assert [row[1] for row in rows] == [name.replace(" ", "_") for name in expected.names]
        numbers = np.array([row[2:] for row in rows], float)
        np.testing.assert_allclose(numbers[:, 0], expected.scores, atol=1e-5)
        np.testing.assert_allclose(numbers[:, 1:], expected.boxes_xyxy, atol=0.01)
    return len(files)


def run_example(monkeypatch, capsys, folder, files):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(folder / "model"), *map(str, files)])
    monkeypatch.setitem(sys.modules, "pse_jax", None)  # `import pse_jax` fails
    runpy.run_path(str(EXAMPLE))
    return capsys.readouterr().out.splitlines()


def test_seven_images_of_different_sizes_in_one_call(exported, detector, monkeypatch, capsys):
    """On three canvases; the same boxes as the Python API to 0.01 px and scores to 1e-5."""
    assert len(program.canvases(64, 64, "detectron2")) == 3
    lines = run_example(monkeypatch, capsys, exported, sorted(exported.glob("*.npy")))
    assert assert_as_the_detector_says(lines, detector) == 7


def call(detector, batch, sizes):
    config = program.settled(detector.config)
    run = jax.jit(lambda *args: program.run(config, detector.categories.ids, *args))
    return jax.device_get(run(detector.variables, batch, np.array(sizes, np.int32)))


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
    from pse_jax.data.transforms import resized_hw
    from pse_jax.detector import canvas_hw

    choices = program.canvases(*sides, rule)
    assert len(choices) <= 13
    for height, width in rng.integers(1, 6000, (4000, 2)).tolist():
        if max(height, width) <= program.MOST_ELONGATED * min(height, width):
            assert canvas_hw(resized_hw(height, width, *sides, rule), max(sides)) in choices


def test_auto_is_exported_as_float32_and_bfloat16_as_it_is():
    for given, exported in (("auto", "float32"), ("bfloat16", "bfloat16")):
        assert program.settled(make_detector(dtype=given).config).model.dtype == exported


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
def test_in_an_environment_of_jax_and_numpy_alone(exported, detector, tmp_path):
    """Installs them from the package index: minutes."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    wanted = [f"jax=={jax.__version__}", f"numpy=={np.__version__}", "flatbuffers"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    for count in (1, 7):
        files = sorted(exported.glob("*.npy"))[:count]
        command = [python, "-I", EXAMPLE, exported / "model", *files]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert assert_as_the_detector_says(done.stdout.splitlines(), detector) == count
