"""Runs of the real loop, small: what they write, and that stopping and resuming changes nothing."""

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import pse_jax
from pse_jax.config import LossConfig
from pse_jax.data import sources
from pse_jax.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LockError,
    TrainingError,
    UserError,
)
from pse_jax.evaluation.coco import METRICS
from pse_jax.losses.detection import describe_loss
from pse_jax.runs.evaluate import evaluate, evaluate_run
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run
from pse_jax.runs.lock import held
from pse_jax.training import profile
from pse_jax.training.loop import train
from pse_jax.training.scalars import ScalarWriter
from tests import tiny_run as tiny
from tests.traces import traced


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """One whole run, two steps of it profiled: its configuration, folder and returned numbers."""
    config, folder = tiny.config(cache, report=True), tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "BEFORE", 2)
        return config, folder, train(config, folder, profile=2)


def parameters(folder):
    return jax.device_get(load_run(Run(folder), "latest").variables["params"])


def assert_same_bits(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


def test_the_steps_asked_for_are_profiled_to_their_end(run):
    _, folder, _ = run
    steps, names = traced(folder / "profile")
    assert steps == {3, 4}
    assert any("fusion" in name for name in names)  # what the device did
    log = (folder / "train.log").read_text()
    assert f"profile: steps 3 to 4 are in {folder}" in log
    assert re.search(r"compiled 1 of 1 in \d+s: each device 0\.\d+ GFLOP a step, 0\.\d+ GB", log)


def test_a_run_writes_all_that_it_promises(run):
    _, folder, numbers = run
    written = json.loads((folder / "eval_6.json").read_text())
    assert written == json.loads(json.dumps(numbers))
    assert set(METRICS) | {"PCC", "SCC", "KCC", "per_class", "oracle_AP"} <= set(written)
    assert written["images"] == 10
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 6]  # the last is the evaluation's
    assert {"loss", "cls", "box", "assoc", "lr", "positives", "grad_norm"} <= set(lines[0])
    detections = json.loads((folder / "detections_6.json").read_text())
    category_ids = set(load_run(Run(folder), "latest").categories.ids)
    assert {d["category_id"] for d in detections} <= category_ids
    assert (folder / "checkpoints" / "6").is_dir() and (folder / "best" / "6").is_dir()
    page = (folder / "report.html").read_text()
    assert 'id="curves"' in page and "step 6 of 6, finished" in page
    log = (folder / "train.log").read_text()
    assert "made report.html in" in log
    assert "PSE(beta=1, k=1, score=max)" in log and "step 6/6 (100.0%)" in log


def test_a_loss_is_described_by_its_terms():
    loss = LossConfig(association="none")
    assert "no association loss" in describe_loss(loss)
    assert describe_loss(loss, "iou").endswith("+ BCE(IoU); no association loss")


@pytest.mark.slow
def test_the_log_shows_the_terms_that_are_on(cache, tmp_path):
    config = tiny.config(cache)
    config.loss.association = "none"
    config.optimizer.steps = 2
    train(config, tmp_path)
    lines = (tmp_path / "train.log").read_text().splitlines()
    step_line = next(line for line in lines if "step 2/2" in line)
    assert " assoc " not in step_line and " cls " in step_line and " box " in step_line


def test_resuming_is_bit_identical(run, cache, tmp_path):
    _, folder, _ = run
    half = tiny.config(cache)
    half.optimizer.steps = 4
    train(half, tmp_path)
    # As after a kill: a checkpoint is half written, and steps past the last whole one are logged.
    (tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 1.0}) + '\n{"step": 6, "lo')
    train(tiny.config(cache), tmp_path)
    assert_same_bits(parameters(tmp_path), parameters(folder))
    steps = [json.loads(x)["step"] for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 4, 6, 6]


def test_a_finished_run_only_evaluates_again(run, cache, tmp_path):
    _, folder, numbers = run
    copied = shutil.copytree(folder, tmp_path / "copy")
    assert train(tiny.config(cache, report=True), copied) == numbers
    for name in ("metrics.jsonl", "config.json"):  # the same, and not even written again
        assert (copied / name).read_bytes() == (folder / name).read_bytes()
        assert (copied / name).stat().st_mtime_ns == (folder / name).stat().st_mtime_ns


def test_a_folder_in_use_is_refused_but_may_be_evaluated(run, cache, tmp_path):
    _, folder, numbers = run
    copied = shutil.copytree(folder, tmp_path / "copy")
    with held(copied):
        with pytest.raises(LockError, match="is in use by process"):
            train(tiny.config(cache), copied)
        assert evaluate_run(Run(copied), tiny.config(cache), "latest") == numbers


@pytest.mark.slow
def test_a_lock_that_was_lost_stops_the_run_before_it_writes_on(cache, tmp_path, monkeypatch):
    write = ScalarWriter.write

    def write_and_lose(writer, step, scalars):
        write(writer, step, scalars)
        (tmp_path / "lock_1.json").unlink()

    monkeypatch.setattr(ScalarWriter, "write", write_and_lose)
    with pytest.raises(LockError, match=r"freed: .*lock_1.json is gone. This process stops"):
        train(tiny.config(cache), tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "checkpoints" / "4").exists()


def test_a_workdir_holds_one_run(run, cache):
    _, folder, _ = run
    other = tiny.config(cache)
    other.optimizer.learning_rate = 0.02
    with pytest.raises(ConfigError, match=r"config.optimizer.learning_rate was 0.01 and is 0.02"):
        train(other, folder)


def test_evaluating_a_checkpoint_repeats_the_numbers(run):
    config, folder, numbers = run
    for which in ("latest", "best", "6"):
        assert evaluate_run(Run(folder), config, which) == numbers
    assert not (folder / "evaluations").exists()
    with pytest.raises(CheckpointError, match=r"no checkpoint '7' \(it has latest: steps \[4, 6\]"):
        evaluate_run(Run(folder), config, "7")


def test_an_evaluation_of_something_else_leaves_the_results_of_the_run_alone(run):
    """With overrides, or of another checkpoint: in a folder that says what was evaluated."""
    config, folder, numbers = run
    own = {file.name: file.read_bytes() for file in folder.glob("*_6.json")}
    assert set(own) == {"eval_6.json", "detections_6.json"}
    other = copy.deepcopy(config)
    other.inference.score_threshold = 0.001
    other.data.threads = 1  # changes nothing
    assert evaluate_run(Run(folder), other, "latest") != numbers
    place = folder / "evaluations" / "step_6-inference.score_threshold=0.001"
    said = json.loads((place / "evaluation.json").read_text())
    assert said["step"] == 6 and said["data"].endswith("instances_val.json")
    assert said["changed"] == {"inference.score_threshold": {"run": 0.05, "here": 0.001}}
    assert (place / "detections_6.json").is_file()
    assert "inference.score_threshold=0.001, into " in (place / "eval.log").read_text()

    evaluate_run(Run(folder), config, "4")
    assert (folder / "evaluations" / "step_4" / "eval_4.json").is_file()
    assert not (folder / "eval_4.json").exists()

    evaluate_run(Run(folder), config, "latest", folder / "elsewhere")
    assert json.loads((folder / "elsewhere" / "eval_6.json").read_text()) == numbers
    assert {file.name: file.read_bytes() for file in folder.glob("*_6.json")} == own


def test_a_loaded_detector_finds_what_the_evaluation_found(run, tmp_path):
    config, folder, _ = run
    detector = pse_jax.load(folder)
    assert detector.step == 6 and detector.config == config
    config = copy.deepcopy(config)
    config.inference.score_threshold = 0.001  # so that there are some
    detector = dataclasses.replace(detector, config=config)
    dataset = sources.open_split(config.data, "val")
    assert detector.categories == dataset.categories
    evaluate(detector, dataset, tmp_path)
    evaluated = json.loads((tmp_path / "detections_6.json").read_text())
    for i in range(3):
        found = detector(dataset.name_of(i))
        wanted = [row for row in evaluated if row["image_id"] == dataset.image_ids[i]]
        assert len(found) == len(wanted) > 0
        assert found.category_ids.tolist() == [row["category_id"] for row in wanted]
        boxes = np.array([row["bbox"] for row in wanted])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(found.scores, [row["score"] for row in wanted], atol=1e-6)
        np.testing.assert_allclose(found.boxes_xyxy, boxes, atol=1e-3)


def test_the_five_lines_of_the_readme(run, tmp_path, monkeypatch, capsys):
    """They load the run that its first command trains and print the detections of one image."""
    _, folder, _ = run
    copy = shutil.copytree(folder, tmp_path / "runs" / "shapes_pse")
    config = json.loads((copy / "config.json").read_text())
    config["inference"]["score_threshold"] = 0.001  # this detector is sure of nothing
    (copy / "config.json").write_text(json.dumps(config))
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert "python train.py --config configs/shapes_pse.py" in readme
    code = readme.split("## The detector in Python")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace("0.3", "0.001"), names)
    assert names["detector"].step == 6
    assert len(names["found"]) > 0 and capsys.readouterr().out == f"{names['found']}\n"
    with Image.open("drawn.png") as drawn:
        assert max(drawn.size) >= 64


def test_the_best_is_the_newest_until_something_was_evaluated(run, tmp_path):
    _, folder, _ = run
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    shutil.copy(folder / "config.json", tmp_path)
    assert pse_jax.load(tmp_path).step == 6
    with pytest.raises(CheckpointError, match=r"no checkpoint '5' .* best: step none"):
        pse_jax.load(tmp_path, "5")
    with pytest.raises(UserError, match="nowhere"):
        pse_jax.load(tmp_path / "nowhere")


def test_a_checkpoint_of_another_model_is_refused(run, cache):
    _, folder, _ = run
    wider = tiny.config(cache)
    wider.model.fpn_channels = 32
    with pytest.raises(CheckpointError, match="does not hold the model"):
        load_run(Run(folder), "latest", wider)


def test_other_categories_are_refused(run, cache, tmp_path):
    config, folder, _ = run
    root = tmp_path / "data"
    shutil.copytree(sources.locate(config.data).root, root)
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "zebra"
    file.write_text(json.dumps(content))
    other = tiny.config(cache)
    other.data.source, other.data.root = "coco", str(root)
    other.data.val_annotations, other.data.val_images = "annotations/instances_val.json", "val"
    with pytest.raises(DataError, match=r"differ from those of the checkpoint.*zebra"):
        evaluate_run(Run(folder), other, "latest")


def test_a_corrupt_image_is_left_out_and_said(cache, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(sources.locate(tiny.config(cache).data).root, root)
    for split in ("train", "val"):
        victim = sorted((root / split).glob("*.jpg"))[3]
        victim.write_bytes(victim.read_bytes()[:200])
    config = tiny.config(cache)
    data = config.data
    data.source, data.root, data.keep_empty = "coco", str(root), True
    data.train_annotations, data.train_images = "annotations/instances_train.json", "train"
    data.val_annotations, data.val_images = "annotations/instances_val.json", "val"
    numbers = train(config, tmp_path / "run")
    assert numbers is not None and numbers["unreadable_images"] == [int(victim.stem)]
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"{victim} cannot be decoded" in log and f"image id {int(victim.stem)}" in log
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum(json.loads(line).get("unreadable", 0) for line in lines) == 2  # 6·8 of 24 images


def test_steps_that_are_not_finite_stop_the_run_and_name_the_images(cache, tmp_path):
    config = tiny.config(cache, max_bad_steps=3)
    config.model.pixel_std = (1e-44, 1e-44, 1e-44)  # every pixel becomes an infinity
    config.model.norm, config.model.frozen_stages = "frozen_bn", 5  # compiles sooner
    with pytest.raises(TrainingError, match="3 steps in a row, up to 3"):
        train(config, tmp_path)
    log = (tmp_path / "train.log").read_text()
    assert "step 1 is not finite and was skipped; its image ids: [" in log


def test_a_batch_that_does_not_divide_among_the_devices(cache, tmp_path):
    config = tiny.config(cache)
    config.data.batch_size = 12
    with pytest.raises(UserError, match="12 images does not divide among 8 devices; try 8"):
        train(config, tmp_path)


@pytest.mark.slow
def test_images_without_boxes_can_be_trained_on(cache, tmp_path):
    """A data set of which nothing is positive: finite, and the log shows it."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    for i in range(8):
        Image.new("RGB", (64, 64), (i, i, i)).save(root / "images" / f"{i}.jpg")
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in range(8)],
        "annotations": [],
        "categories": [{"id": 5, "name": "nothing"}],
    }
    (root / "a.json").write_text(json.dumps(content))
    config = tiny.config(cache)
    data = config.data
    data.source, data.root, data.keep_empty = "coco", str(root), True
    data.train_annotations = data.val_annotations = "a.json"
    data.train_images = data.val_images = "images"
    numbers = train(config, tmp_path / "run")
    assert numbers is not None and numbers["AP"] is None
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["positives"] == 0 and first["box"] == 0 and np.isfinite(first["loss"])
    data.keep_empty = False
    with pytest.raises(DataError, match="no image has a box to train on"):
        train(config, tmp_path / "other")
