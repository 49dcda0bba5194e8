"""import-weights and export-weights, from the command line to the files they write."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")

import pse_jax  # noqa: E402
from pse_jax.__main__ import VERBS  # noqa: E402
from pse_jax.categories import COCO, Categories  # noqa: E402
from pse_jax.data import sources  # noqa: E402
from pse_jax.errors import CheckpointError, ConfigError, UserError, WeightsError  # noqa: E402
from pse_jax.models.resnet import BLOCKS  # noqa: E402
from pse_jax.runs import restore  # noqa: E402
from pse_jax.runs.evaluate import evaluate  # noqa: E402
from pse_jax.runs.folder import Run  # noqa: E402
from pse_jax.runs.load import load_run  # noqa: E402
from pse_jax.verbs import export_weights, import_weights  # noqa: E402
from tests.weights import torch_fcos  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
SHORT = (1, 1, 1, 1)  # bottlenecks a stage
HEIGHT, WIDTH = 64, 90


@pytest.fixture
def short_resnet(monkeypatch):
    monkeypatch.setitem(BLOCKS, 50, SHORT)


def make_reference(form, seed=11):
    variant = dataclasses.replace(torch_fcos.VARIANTS[form], tower_convs=1)
    with torch.no_grad():
        return torch_fcos.Reference(variant, SHORT, 8, 64).randomise(seed)


def make_file(path, form):
    save_file(torch_fcos.as_arrays(torch_fcos.renamed(make_reference(form))), path)
    return path


def import_file(file, run, *flags):
    assert import_weights.main([str(file), "--workdir", str(run), *map(str, flags)]) == 0


def write_data(root):
    """One image with COCO's categories."""
    image = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (root / "val").mkdir(parents=True)
    Image.fromarray(image).save(root / "val/1.png")
    ids = zip(COCO.ids, COCO.names, strict=True)
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 90, "bbox": [5, 5, 40, 30], "area": 1200}
        ],
        "categories": [{"id": i, "name": name} for i, name in ids],
    }
    (root / "val.json").write_text(json.dumps(content))
    return image


def test_from_a_published_file_to_detections_and_back(tmp_path, short_resnet, capsys):
    """The file as training leaves it: below "model", every name behind `module.`."""
    reference = make_reference("fcos")
    tensors = torch_fcos.renamed(reference)
    file, run = tmp_path / "FCOS_R_50_FPN_1x.pth", tmp_path / "run"
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"model": wrapped, "iteration": 90_000}, file)

    import_file(file, run)
    report = capsys.readouterr().out
    assert "format fcos: FCOS_R_50_FPN_1x.pth is a published name without imprv" in report
    assert "in the file, not used: iteration" in report and "80 classes" in report

    config = Run(run).config()
    assert config.inference.inclusive_boxes and config.data.short_side == 800
    image = write_data(tmp_path / "data")
    config.data.root, config.data.val_images = str(tmp_path / "data"), "val"
    config.data.val_annotations = "val.json"
    config.data.short_side, config.data.long_side = HEIGHT, 96  # so that the canvas is 64x96
    config.inference.batch_size, config.train.compilation_cache = 8, False
    detector = load_run(Run(run), "latest", config)
    evaluate(detector, sources.open_split(config.data, "val"), run)
    found = json.loads((run / "detections_0.json").read_text())
    canvas = np.zeros((64, 96, 3), np.uint8)
    canvas[:, :WIDTH] = image
    variant, size = reference.variant, (HEIGHT, WIDTH)
    with torch.no_grad():
        outputs = reference(torch_fcos.pixels_of(canvas, size, variant))
    expected = torch_fcos.detections(outputs, (64, 96), size, size, variant, 1000)
    assert len(found) == len(expected) > 20
    key = lambda row: (row[0], -row[1])  # noqa: E731
    ours = [(d["category_id"], d["score"], *d["bbox"]) for d in found]
    theirs = [(COCO.ids[label], *rest) for label, *rest in expected]
    for a, b in zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True):
        assert a[0] == b[0] and abs(a[1] - b[1]) < 1e-4
        np.testing.assert_allclose(a[2:], b[2:], atol=0.01)

    output = tmp_path / "out/exported.safetensors"
    assert export_weights.main(["--workdir", str(run), "--out", str(output)]) == 0
    assert "quality centerness on class" in capsys.readouterr().out
    exported = load_file(output)
    assert exported.keys() == tensors.keys()
    for name, array in torch_fcos.as_arrays(tensors).items():
        assert exported[name].tobytes() == array.tobytes(), name

    import_file(output, tmp_path / "again")  # needs no --format
    assert "exported by pse_jax" in capsys.readouterr().out
    assert Run(tmp_path / "again").config() == Run(run).config()


def test_an_imported_folder_cannot_be_trained_in_or_overwritten(
    tmp_path, short_resnet, one_device_mesh, capsys
):
    file, run = make_file(tmp_path / "fcos.safetensors", "mmdet"), tmp_path / "run"
    import_file(file, run)
    report = capsys.readouterr().out
    assert "format mmdet: the convolutions of its towers have no biases" in report
    with pytest.raises(CheckpointError, match="holds a run already"):
        import_file(file, run)
    with pytest.raises(CheckpointError, match="init_from=FILE and another --workdir"):
        restore.newest(Run(run), lambda meta: ({}, {}), one_device_mesh)


def test_flags_change_the_configuration_before_the_model_is_built(tmp_path, short_resnet):
    """As mmdet's files trained on torchvision's backbone need."""
    file, run = make_file(tmp_path / "fcos.safetensors", "mmdet-improved"), tmp_path / "run"
    import_file(
        file,
        run,
        "--config.model.stride_in_1x1=false",
        "--config.model.channel_order=rgb",
        "--config.model.quality=none",
    )
    detector, plain = pse_jax.load(run), pse_jax.load(file)
    model = detector.config.model
    assert not model.stride_in_1x1 and model.channel_order == "rgb"
    assert plain.config.model.stride_in_1x1 and plain.config.model.channel_order == "bgr"
    assert "quality_conv" in plain.variables["params"]["head"]
    assert "quality_conv" not in detector.variables["params"]["head"]
    with pytest.raises(ConfigError, match=r"config.model.channel_order"):
        import_file(tmp_path / "none.pth", tmp_path / "new", "--config.model.channel_order=red")


def test_other_classes_need_a_file_that_names_them(tmp_path, short_resnet):
    arrays = torch_fcos.as_arrays(torch_fcos.renamed(make_reference("adelaidet")))
    head = "proposal_generator.fcos_head.cls_logits"
    for leaf in ("weight", "bias"):
        arrays[f"{head}.{leaf}"] = arrays[f"{head}.{leaf}"][:2].copy()
    file, annotations = tmp_path / "a.safetensors", tmp_path / "a.json"
    save_file(arrays, file)
    with pytest.raises(WeightsError, match=r"2 class channels.*--annotations FILE"):
        import_file(file, tmp_path / "run")
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    empty = {"images": [], "annotations": [], "categories": categories}
    annotations.write_text(json.dumps(empty))
    import_file(file, tmp_path / "run", "--annotations", annotations)
    assert pse_jax.load(tmp_path / "run").categories == Categories((3, 7), ("dog", "cat"))


def test_missing_flags_are_named(tmp_path):
    with pytest.raises(UserError, match="--workdir"):
        import_weights.main(["a.pth"])
    with pytest.raises(UserError, match="--out"):
        export_weights.main(["--workdir", str(tmp_path)])


def test_eval_without_config_takes_the_runs_own(tmp_path):
    """It gets as far as the data, which that configuration does not name."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"name": "mine"}')
    done = subprocess.run(
        [sys.executable, "eval.py", "--workdir", str(run), "--config.model.depth=18"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and f"{run} has no checkpoint 'best'" in done.stderr
    (run / "config.json").write_text('{"nam": "mine"}')
    done = subprocess.run(
        [sys.executable, "eval.py", "--workdir", str(run)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "config.nam is unknown to this version" in done.stderr


def test_the_verbs_are_listed():
    assert {"import-weights", "export-weights"} <= VERBS.keys()
