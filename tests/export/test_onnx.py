"""The ONNX file against the Detector that it was made of: the same pixels, the same boxes."""

import dataclasses
import json
import re
import subprocess
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest

from pse_jax import models
from pse_jax.categories import COCO, Categories
from pse_jax.config import Config, DataConfig, ModelConfig
from pse_jax.data import transforms
from pse_jax.detections import Thresholds
from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import bundle
from pse_jax.export import onnx as export
from pse_jax.weights.presets import FORMATS, preset
from tests import tiny, tiny_run
from tests.export import graphs

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "run_onnx.py"
SIZES = [(64, 96), (50, 70), (200, 130), (33, 400), (96, 64), (10, 10), (120, 121)]  # h, w


def make_detector(config, categories):
    model = models.create(config.model, len(categories))
    return Detector(config, categories, tiny.make_variables(model), step=7)


@pytest.fixture(scope="module")
def detector():
    config = tiny_run.config("unused")
    config.data.short_side, config.data.long_side = 64, 96
    return make_detector(config, Categories((2, 5, 9), ("ant", "bee", "cät")))


@pytest.fixture(scope="module")
def path(detector, tmp_path_factory):
    return export.write(detector, tmp_path_factory.mktemp("exported") / "model")


def pictures(sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def assert_same(detector, session, images, monkeypatch):
    """Far under the 0.1 px and 1e-4 that are promised; without OpenCV, which resizes otherwise."""
    monkeypatch.setattr(transforms, "cv2", None)
    for image in images:
        found = detector(image)
        boxes, scores, ids, count = (all[0] for all in session.run(None, {"images": image[None]}))
        assert count == len(found) > 0
        np.testing.assert_allclose(scores[:count], found.scores, atol=1e-5)
        np.testing.assert_allclose(boxes[:count], found.boxes_xyxy, atol=5e-3)
        np.testing.assert_array_equal(ids[:count], found.category_ids)


def test_an_image_gives_the_same_through_both(detector, path, monkeypatch):
    session = graphs.session(str(path))
    assert_same(detector, session, pictures(SIZES[:3]), monkeypatch)


def test_images_of_a_batch_are_as_each_alone(path):
    session = graphs.session(str(path))
    images = np.stack(pictures([(70, 50)] * 3))
    together = session.run(None, {"images": images})
    for i, image in enumerate(images):
        for one, of_all in zip(session.run(None, {"images": image[None]}), together, strict=True):
            np.testing.assert_allclose(one[0], of_all[i], atol=1e-4)


def test_the_file_says_what_it_is(detector, path):
    measured = Thresholds(0.25, {"ant": 0.4, "bee": None})
    with_thresholds = export.build(dataclasses.replace(detector, thresholds=measured))
    properties = {each.key: each.value for each in with_thresholds.metadata_props}
    assert json.loads(properties["thresholds"]) == {"2": 0.4, "5": 0.25, "9": 0.25}
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    properties = {each.key: each.value for each in model.metadata_props}
    assert json.loads(properties["labels"]) == {"2": "ant", "5": "bee", "9": "cät"}
    assert json.loads(properties["config"])["inference"]["max_detections"] == 20
    assert properties["step"] == "7" and properties["thresholds"] == "{}"
    counts = export.count_nodes(model)
    assert counts["NonMaxSuppression"] == 1 and sum(counts.values()) < 700
    session = graphs.session(str(path))
    artefact = export.make(detector)
    for said, found in (
        (artefact.inputs, session.get_inputs()),
        (artefact.outputs, session.get_outputs()),
    ):
        types = [f"tensor({each.dtype.replace('float32', 'float')})" for each in said]
        assert [each.name for each in said] == [each.name for each in found]
        assert types == [each.type for each in found]
        assert [list(each.shape) for each in said] == [each.shape for each in found]


def test_the_bundle_describes_it(detector, tmp_path):
    bundle.write(detector, tmp_path, [export.make(detector)], command="export", source="a run")
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["artefacts"]["onnx"]["files"] == ["model.onnx"]
    assert "one size" in (tmp_path / "README.md").read_text()
    graphs.session(str(tmp_path / "model.onnx"))


def test_ids_beyond_int32_are_refused(detector):
    with pytest.raises(UserError, match="3000000000"):
        export.build(
            dataclasses.replace(detector, categories=Categories((1, 2, 3_000_000_000), ("",) * 3))
        )


def narrow(config, **model):
    """A published detector's configuration, with a network that compiles in seconds."""
    sizes = dict(width=4, fpn_channels=8, head_groups=4, head_convs=1, frozen_stages=0)
    config.model = dataclasses.replace(config.model, **(sizes | model))
    config.data.short_side, config.data.long_side = 64, 96
    config.inference.max_detections = 30
    return config


def test_torchvisions_detector(monkeypatch):
    """Frozen batch norms to fold, its grid, distances, scores and resize."""
    config = narrow(preset("torchvision"), depth=10)
    detector = make_detector(config, COCO)
    session = graphs.session(export.build(detector))
    assert_same(detector, session, pictures([(150, 100)]), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_published_detectors(form, monkeypatch):
    detector = make_detector(narrow(preset(form), depth=50), COCO)
    session = graphs.session(export.build(detector))
    assert_same(detector, session, pictures([(150, 100)]), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"norm": "gn", "norm_groups": 4, "width": 8, "depth": 34},
        {"head_convs": 0, "channel_order": "rgb", "pixel_std": (60.0, 50.0, 40.0)},
        {"quality": "iou", "quality_tower": "box", "tower_bias": False, "stride_in_1x1": False},
        {"remat": True, "grid": "torchvision", "distances": "relu"},
    ],
)
def test_other_models(model, monkeypatch):
    detector = make_detector(narrow(Config(), **model), COCO)
    session = graphs.session(export.build(detector))
    assert_same(detector, session, pictures([(150, 100)]), monkeypatch)


@pytest.mark.slow
def test_resnet_50_of_full_width(monkeypatch):
    config = Config(model=ModelConfig(), data=DataConfig(short_side=128, long_side=160))
    detector = make_detector(config, COCO)
    session = graphs.session(export.build(detector))
    assert_same(detector, session, pictures([(150, 100)]), monkeypatch)


@pytest.mark.slow
def test_the_example_needs_onnxruntime_and_numpy_alone(detector, path, tmp_path, monkeypatch):
    """In an environment of its own, on one image and on seven of different sizes."""
    monkeypatch.setattr(transforms, "cv2", None)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy"], check=True)
    assert subprocess.run([python, "-c", "import jax"], capture_output=True).returncode != 0
    images = pictures(SIZES)
    for i, image in enumerate(images):
        np.save(tmp_path / f"{i}.npy", image)
    for count in (1, 7):
        names = [f"{i}.npy" for i in range(count)]
        done = subprocess.run(
            [python, EXAMPLE, path, *names], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        parts = re.split(r"^\d\.npy: (\d+) detections\n", done.stdout, flags=re.MULTILINE)[1:]
        for i in range(count):
            found, lines = detector(images[i]), parts[2 * i + 1].splitlines()
            assert len(found) == int(parts[2 * i]) == len(lines) > 0
            for j, line in enumerate(lines):
                name, *numbers = line.split()
                assert name == found.names[j]
                expected = [found.scores[j], *found.boxes_xyxy[j]]
                np.testing.assert_allclose([*map(float, numbers)], expected, atol=6e-3)
