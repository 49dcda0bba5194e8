"""What the processes of one job compare before they train, and the message when it differs."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import pse_jax
from pse_jax.config import Config
from pse_jax.data import coco
from pse_jax.errors import DataError
from pse_jax.runs.agreement import (
    check_kept,
    code_facts,
    config_facts,
    data_facts,
    disagreement,
)
from pse_jax.runs.folder import Run
from tests import coco_files

HOSTS = ["hostA", "hostB", "hostC"]


def told(*facts):
    return disagreement(HOSTS[: len(facts)], list(facts))


def config(**changes):
    made = Config()
    for path, value in changes.items():
        *sections, name = path.split("__")
        node = made
        for section in sections:
            node = getattr(node, section)
        setattr(node, name, value)
    return config_facts(made)


@pytest.mark.parametrize(
    "path, a, b",
    [
        ("seed", 0, 1),
        ("optimizer.learning_rate", 0.01, 0.02),
        ("optimizer.steps", 90_000, 80_000),
        ("model.dtype", "auto", "float32"),
        ("data.shapes.seed", 0, 3),
        ("train.checkpoint_every", 1000, 500),
    ],
)
def test_a_field_that_differs_is_named_with_both_values_and_whose_they_are(path, a, b):
    message = told(config(), config(**{path.replace(".", "__"): b}))
    assert f"config.{path}: {a!r} in process 0 (hostA); {b!r} in process 1 (hostB)" in message
    assert message.count("config.") == 1


def test_where_the_data_are_on_a_host_does_not_count():
    other = config(
        data__root="/scratch/coco", data__cache_dir="/tmp", data__threads=1, data__prefetch=9
    )
    assert told(config(), other) == ""


def test_many_processes_are_counted_not_listed():
    facts = [config() for _ in range(40)]
    facts[7] = config(seed=5)
    message = disagreement([f"host{i}" for i in range(40)], facts)
    assert (
        "config.seed: 0 in processes 0 (host0), 1 (host1), 2 (host2) and 36 more; "
        "5 in process 7 (host7)" in message
    )


def test_a_version_with_other_fields_is_compared_by_those_it_has():
    old = config()
    del old["config.loss.iou_smooth"]
    assert "config.loss.iou_smooth: absent in process 0 (hostA); 1.0 in process 1" in told(
        old, config()
    )
    assert "config.loss.iou_smooth: 1.0 in process 0 (hostA); absent in process 1" in told(
        config(), old
    )


def test_a_line_of_code_that_differs_names_its_file(tmp_path):
    package = Path(pse_jax.__file__).parent
    copy = tmp_path / "pse_jax"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert told(code_facts(package), code_facts(copy)) == ""
    with (copy / "losses" / "iou.py").open("a") as file:
        file.write("# \n")
    message = told(code_facts(package), code_facts(copy))
    assert "pse_jax/losses/iou.py: " in message and len(message.splitlines()) == 3


def test_only_the_first_of_many_differences_are_listed():
    a = {f"field {i}": "1" for i in range(30)}
    lines = told(a, dict.fromkeys(a, "2")).splitlines()
    assert lines[1].startswith("  field 0: ") and lines[9] == "  and 22 more"
    assert len(lines) == 11


@pytest.fixture
def dataset(tmp_path):
    return coco.load(*coco_files.write(tmp_path))


@pytest.mark.parametrize(
    "field, part",
    [
        ("image_ids", "image ids"),
        ("sizes_hw", "image sizes"),
        ("boxes_xywh", "boxes"),
        ("crowd", "boxes"),
        ("category", "labels"),
    ],
)
def test_annotations_that_differ_in_one_value_are_named(dataset, field, part):
    values = getattr(dataset, field).copy()
    values.flat[-1] = ~values.flat[-1] if values.dtype == bool else values.flat[-1] + 1
    other = dataclasses.replace(dataset, **{field: values})
    name = f"the {part} of the training data"
    message = told(data_facts("training data", dataset), data_facts("training data", other))
    assert f"{name}: " in message and message.count("the training data") == 1
    assert told(data_facts("training data", dataset), data_facts("training data", dataset)) == ""


def test_a_data_set_with_fewer_images_is_named_with_the_counts(dataset):
    fewer = dataset.select(np.arange(len(dataset) - 1))
    message = told(data_facts("training data", dataset), data_facts("training data", fewer))
    assert f"the image ids of the training data: {len(dataset)} (" in message
    assert f"; {len(dataset) - 1} (" in message


def test_a_run_resumes_on_the_data_it_began_with(dataset, tmp_path, caplog):
    run, moved = Run(tmp_path / "run"), dataset.boxes_xywh.copy()
    run.make()
    moved[0, 0] += 1
    other = dataclasses.replace(dataset, boxes_xywh=moved)
    check_kept(run, {"training data": other})
    check_kept(run, {"training data": dataset})  # nothing was trained yet
    (run.checkpoints / "3").mkdir(parents=True)
    renamed = dataclasses.replace(dataset, image_names=tuple("abc"[: len(dataset)]))
    check_kept(run, {"training data": renamed})

    said = r"the boxes of the training data were 4 \(\w+\) and are 4 \(\w+\)"
    with pytest.raises(DataError, match=f"{said}.*--allow-change=data"):
        check_kept(run, {"training data": other}, ["train.log_every"])
    check_kept(run, {"training data": other}, ["data.root", "data.source"])
    assert "other data from here on" in caplog.text
    check_kept(run, {"training data": other})
    with pytest.raises(DataError):
        check_kept(run, {"training data": dataset})


def test_a_run_that_noted_no_data_resumes(dataset, tmp_path):
    run = Run(tmp_path / "run")
    (run.checkpoints / "3").mkdir(parents=True)
    check_kept(run, {"training data": dataset})
    run.data_file.write_text("{")  # cut off
    check_kept(run, {"training data": dataset})
    assert "the boxes of the training data" in run.data_file.read_text()
