"""`export`: the files beside a model, from the command line to what is written."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from pse_jax import models
from pse_jax.categories import Categories
from pse_jax.detections import Thresholds
from pse_jax.detector import Detector
from pse_jax.errors import UserError, WriteError
from pse_jax.export import bundle, card, stablehlo
from pse_jax.export.artefact import Artefact
from pse_jax.runs.folder import Run, numbers_file
from pse_jax.verbs import export, flags
from pse_jax.weights.export import save
from tests import tiny, tiny_run

EVALUATION = {
    "step": 7, "AP": 0.25, "AP50": 0.5, "APS": None, "PCC": 0.75, "images": 10, "objects": 30,
    "thresholds": {"overall": 0.4, "per_class": {"ant": 0.35}},
}  # fmt: skip


@pytest.fixture(scope="module")
def detector():
    config = tiny_run.config(Path("unused"))
    variables = tiny.make_variables(models.create(config.model, 3))
    thresholds = Thresholds(0.4, {"ant": 0.35, "bee (id 5)": 0.25})
    names = Categories((2, 5, 9), ("ant", "bee", "bee"))
    return Detector(config, names, variables, 7, thresholds)


@pytest.fixture
def fake(monkeypatch):
    """Everything but the program, which takes long to make."""

    def make(detector):
        return stablehlo.describe(detector, {"model.stablehlo": b"program", "weights.npz": b"w"})

    monkeypatch.setattr(stablehlo, "make", make)


def test_a_published_file_becomes_a_folder(detector, fake, tmp_path, capsys):
    save(detector, tmp_path / "a.safetensors")
    argv = ["--detector", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "model")]
    assert export.main([*argv, "--config.inference.max_detections=7"]) == 0
    told = capsys.readouterr().out
    assert f"wrote {tmp_path / 'model' / 'model.stablehlo'}" in told
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert files == ["README.md", "model.json", "model.stablehlo", "weights.npz"]
    assert (tmp_path / "model" / "weights.npz").read_bytes() == b"w"
    found = json.loads((tmp_path / "model" / "model.json").read_text())
    assert found["artefacts"]["stablehlo"]["outputs"][0]["shape"] == ["b", 7, 4]
    assert found["command"].startswith("python -m pse_jax export --detector")
    assert [label["id"] for label in found["labels"]] == [2, 5, 9]


def test_what_programs_read(detector):
    artefacts = [stablehlo.describe(detector, {"model.stablehlo": b""})]
    found = bundle.describe(
        detector, artefacts, command="make it", source="runs/x", evaluation=EVALUATION
    )
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    assert found["labels"] == [
        {"id": 2, "name": "ant", "threshold": 0.35},
        {"id": 5, "name": "bee", "threshold": 0.25},
        {"id": 9, "name": "bee", "threshold": None},
    ]
    assert found["threshold"] == 0.4 and found["step"] == 7 and found["evaluation"] == EVALUATION
    assert found["input"]["resize"] == {"rule": "fcos", "short_side": 64, "long_side": 64}
    assert "upright" in found["input"]["pixels"]
    assert set(found["versions"]) == {"pse-jax", "jax", "jaxlib"}
    assert found["config"]["data"]["short_side"] == 64
    stable = found["artefacts"]["stablehlo"]
    assert [t["name"] for t in stable["inputs"]] == ["weights", "images", "sizes"]
    names = ["boxes_xyxy", "scores", "category_ids", "count"]
    assert [t["name"] for t in stable["outputs"]] == names
    assert stable["limits"]["platforms"] == ["cpu", "cuda", "tpu"]
    assert [64, 64] in stable["limits"]["canvases_hw"]
    assert found["exported"] < stable["readable_until"]


def test_the_card_says_what_people_ask(detector):
    artefacts = [stablehlo.describe(detector, {"model.stablehlo": b"", "weights.npz": b""})]
    found = bundle.describe(
        detector, artefacts, command="make it", source="runs/x", evaluation=EVALUATION
    )
    text = card.render(found, {"stablehlo": "import jax"})
    assert "| AP | AP50 | PCC |\n| --- | --- | --- |\n| 25.0 | 50.0 | 0.750 |" in text  # APS: none
    assert "| 2 | ant | 0.35 |" in text and "| 9 | bee | - |" in text and "0.40 over all" in text
    assert "7 of 8 images" in text and "focal + iou + pse" in text and "random weights" in text
    assert "    make it" in text and "## Licence" in text and "started from, `" not in text
    assert "### stablehlo: model.stablehlo, weights.npz" in text and "import jax" in text
    assert stablehlo.POLICY in text and found["artefacts"]["stablehlo"]["readable_until"] in text
    assert "None" not in text and "nan" not in text

    config = dataclasses.replace(detector.config)
    config.model = dataclasses.replace(config.model, init_from="resnet.pth")
    other = dataclasses.replace(detector, config=config, thresholds=None, step=0)
    found = bundle.describe(other, artefacts, command="c", source="s", evaluation=None)
    text = card.render(found, {"stablehlo": ""})
    assert "Not evaluated" in text and "No thresholds were measured" in text
    assert "started from, `resnet.pth`" in text and "a published detector's file" in text


def test_the_numbers_are_those_of_the_run_as_it_is(tmp_path):
    run = Run(tmp_path)
    parser = flags.parser("export", None)
    flags.add_workdir(parser)
    parser.add_argument("--detector")
    options = flags.parse(parser, ["--workdir", str(tmp_path)])
    assert export.evaluation_of(options, 7) is None
    (run.evaluations / "step_7").mkdir(parents=True)
    numbers_file(run.evaluations / "step_7", 7).write_text('{"AP": 0.2}')
    assert export.evaluation_of(options, 7) == {"AP": 0.2}
    numbers_file(run.folder, 7).write_text('{"AP": 0.3}')
    assert export.evaluation_of(options, 7) == {"AP": 0.3}
    changed = flags.parse(parser, ["--workdir", str(tmp_path), "--config.inference.top_k=5"])
    assert export.evaluation_of(changed, 7) is None


def artefact(name, content=b"x"):
    return Artefact(name, {f"model.{name}": content}, (), (), {}, (), "")


def test_an_earlier_export_is_replaced_whole(detector, tmp_path):
    for artefacts in ([artefact("stablehlo"), artefact("onnx")], [artefact("onnx", b"new")]):
        bundle.check_folder(tmp_path)
        bundle.write(detector, tmp_path, artefacts, command="c", source="s")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.md", "model.json", "model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"new"


def test_folders_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(WriteError, match=r"holds other files \(photo.jpg\).*empty"):
        bundle.check_folder(tmp_path)
    with pytest.raises(WriteError, match=r"photo.jpg is a file"):
        bundle.check_folder(tmp_path / "photo.jpg" / "model")
    assert os.listdir(tmp_path) == ["photo.jpg"]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--workdir", "a", "--format", "onxx"], r"'onxx' is not one or more of stablehlo,onnx"),
        (["--workdir", "a", "--format", ""], "is not one or more of stablehlo,onnx"),
        (["--workdir", "a", "--onnx-for", "any"], "--onnx-for is of --format onnx"),
        ([], "give either --workdir"),
        (["--workdir", "a", "--detector", "b"], "give either --workdir"),
    ],
)
def test_flags_that_make_no_sense(argv, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export.main([*argv, "--out", str(tmp_path / "model")])
    assert not (tmp_path / "model").exists()


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx needs onnx; pip install 'pse-jax\[onnx\]'"):
        export.check_installed("onnx")
    with pytest.raises(UserError, match=r"needs flatbuffers; pip install 'pse-jax\[export\]'"):
        export.check_installed("stablehlo")
