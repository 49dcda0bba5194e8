"""report.html of a run: its numbers, and what it says where something is missing."""

import html
import json
import math
import re
import shutil

import numpy as np
import pytest

from pse_jax.__main__ import main
from pse_jax.config import Config, OptimizerConfig
from pse_jax.data.coco import load
from pse_jax.report import run_tables, style
from pse_jax.report.labels import label_statistics
from pse_jax.report.run_plots import POINTS, thin
from pse_jax.runs import report
from pse_jax.runs.folder import Run
from tests.report import made_run

SECTIONS = ("curves", "images", "precision", "classes", "confusion", "scores", "labels", "times",
            "use", "configuration")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_run.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(made):
    """The page of the whole run, from the command."""
    assert main(["report", "--workdir", str(made)]) == 0
    return (made / "report.html").read_text()


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """The run, to be broken; its data stay where they are. Figures are not drawn: that is slow."""
    monkeypatch.setattr(style, "svg", lambda figure: b"<svg/>")
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    return folder


def section(page, name):
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


def words(text):
    """What a reader sees, without pictures."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_all_sections_and_pictures_are_there(page):
    counts = {name: section(page, name).count("<img ") for name in SECTIONS}
    assert counts == {
        "curves": 4, "images": 18, "precision": 1, "classes": 1, "confusion": 1, "scores": 1,
        "labels": 3, "times": 2, "use": 0, "configuration": 0,
    }  # fmt: skip
    assert 'class="missing"' not in page
    for alt, source in re.findall(r'<img alt="([^"]*)" src="([^"]{0,30})', page):
        assert alt and source.startswith(("data:image/svg+xml;base64,", "data:image/jpeg;base64,"))
    links = re.findall(r'<a href="#(\w+)">', page)
    assert tuple(links) == SECTIONS


def test_the_page_needs_nothing_else_and_names_are_escaped(page):
    bare = re.sub(r"base64,[^\"]*", "", page)
    assert "http" not in bare and "//" not in bare and "url(" not in bare and "@import" not in bare
    assert "<b>orange" not in page and "&lt;b&gt;orange" in page


def test_the_numbers_of_the_page(page):
    top = words(page.split("<nav")[0].split("<main>")[1])
    assert "step 40 of 40, finished" in top and "25.0 AP at step 40" in top
    assert "30.0 highest AP of the run, at step 20" in top
    assert "1.000 loss in training, at step 40" in top
    assert "40 25.0 50.0 - 62.5 75.0 0.500 0.250 0.125" in words(section(page, "curves"))
    coco = words(section(page, "precision"))
    assert "all 25.0 50.0 - - - 62.5" in coco and "small 12.5 - medium - -" in coco
    assert "AP left in ranking, % +50.0" in words(section(page, "scores"))
    times = words(section(page, "times"))
    assert "compile: compiling programs 20s 20.0%" in times and "all 1m40s" in times
    configuration = words(section(page, "configuration"))
    assert "optimizer.milestones (30) (60000, 80000)" in configuration
    assert "30 optimizer.steps 30 40" in configuration
    use = words(section(page, "use"))
    assert "python train.py --workdir squares" in use and "jax 0.0.1" in use


@pytest.mark.parametrize(
    ("broken", "sections", "text", "kept"),
    [
        ("metrics.jsonl", ["curves"], "no curves", ["precision", "images"]),
        ("times.json", ["times"], "is missing", ["curves"]),
        ("detections_40.json", ["images", "precision", "classes", "confusion"], "40", ["curves"]),
        ("eval_40.json", ["precision"], "eval_40.json is damaged; this is of step 20", ["images"]),
    ],
)
@pytest.mark.parametrize("how", ["cut", "other"])
def test_what_is_damaged_is_said(copy, broken, sections, text, kept, how):
    """No section fails for want of a file, and the others are as they were."""
    content = {"cut": '{"step"', "other": '[{"loss": "high"}, 3, null]'}[how]
    (copy / broken).write_text(content)
    report.write(Run(copy))
    page = (copy / "report.html").read_text()
    for name in sections:
        assert 'class="missing"' in section(page, name), name
        assert text in words(section(page, name))
    for name in kept:
        assert "<img " in section(page, name)
    assert all(f'<section id="{name}">' in page for name in SECTIONS)


def test_a_run_that_has_only_begun(copy):
    for file in copy.iterdir():
        if file.name != "config.json":
            file.unlink()
    written = report.write(Run(copy))
    page = (copy / "report.html").read_text()
    assert {"metrics", "detections", "images", "times"} <= set(written.missing)
    assert "There is no evaluation in the folder yet" in words(section(page, "precision"))
    assert "step 0 of 40" in page and "<img " in section(page, "labels")


@pytest.mark.parametrize(
    ("patience", "status"),
    [
        (1, "stopped early by train.patience at step 40 of 60 (best at 20) ·"),
        (2, "step 40 of 60 ·"),  # interrupted, or still running
        (0, "step 40 of 60 ·"),
    ],
)
def test_a_run_that_patience_ended_says_so(copy, patience, status):
    content = json.loads((copy / "config.json").read_text())
    content["optimizer"]["steps"] = 60
    content["train"] |= {"patience": patience, "eval_every": 20}
    (copy / "config.json").write_text(json.dumps(content))
    report.write(Run(copy))
    page = (copy / "report.html").read_text()
    assert status in words(page.split("<nav")[0].split("</h1>")[1])


def test_without_the_data_the_curves_remain(copy):
    content = json.loads((copy / "config.json").read_text())
    content["data"]["root"] = str(copy / "gone")
    (copy / "config.json").write_text(json.dumps(content))
    report.write(Run(copy))
    page = (copy / "report.html").read_text()
    for name in ("labels", "images", "precision"):
        assert "The data cannot be read" in words(section(page, name))
    assert "<img " in section(page, "curves") and "all 25.0" in words(section(page, "precision"))


def test_damaged_lines_of_the_metrics_are_counted(copy):
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 42, "loss": null}\n{"step": "x"}\n{"ste')
    report.write(Run(copy))
    text = words(section((copy / "report.html").read_text(), "curves"))
    assert "2 damaged lines of metrics.jsonl are left out" in text


def test_nothing_found_is_no_error(copy):
    (copy / "detections_40.json").write_text("[]")
    report.write(Run(copy))
    page = (copy / "report.html").read_text()
    assert "found nothing at step 40" in words(section(page, "images"))
    assert "blue" in words(section(page, "classes"))


def test_images_that_cannot_be_read_are_named(made, copy, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(made.parent / "images", root / "images")
    shutil.copy(made.parent / "instances.json", root)
    (root / "images" / "3.jpg").write_bytes(b"no picture")
    content = json.loads((copy / "config.json").read_text())
    content["data"]["root"] = str(root)
    (copy / "config.json").write_text(json.dumps(content))
    written = report.write(Run(copy))
    unread = [one for one in written.shown if one.truth is None]
    assert len(written.shown) == 9 and len(unread) == 1
    assert "3.jpg" in unread[0].caption and "cannot be read" in unread[0].caption


def test_no_run_is_said(tmp_path, capsys):
    assert main(["report", "--workdir", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "--workdir is missing" in capsys.readouterr().err


def test_label_statistics(tmp_path):
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2, 3)
        ],
        "categories": [{"id": i, "name": name} for i, name in ((1, "a"), (2, "b"), (3, "c"))],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 40]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 40]},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 20, 80]},
            {"id": 4, "image_id": 2, "category_id": 3, "bbox": [5, 5, 9, 4]},
            {"id": 5, "image_id": 2, "category_id": 2, "bbox": [5, 5, 9, 4], "iscrowd": 1},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    labels = label_statistics(load(tmp_path / "a.json", tmp_path, require_images=False))
    assert labels.objects.tolist() == [3, 0, 1] and labels.images.tolist() == [2, 0, 1]
    assert labels.per_image.tolist() == [2, 2, 0] and labels.crowds == 1
    np.testing.assert_allclose(labels.median_side, [40, np.nan, 6])
    np.testing.assert_allclose(sorted(labels.sides), [6, 20, 40, 40])
    assert run_tables.labels(labels).rows == [
        ["a", "3", "75.0%", "2", "40"], ["b", "0", "0.0%", "0", "-"], ["c", "1", "25.0%", "1", "6"],
    ]  # fmt: skip


def test_values_of_the_configuration_are_shown_as_they_are_typed():
    shown = [run_tables.shown(v) for v in (True, 1e-4, (1, 2.5), "", "gn", 90_000)]
    assert shown == ["true", "0.0001", "(1, 2.5)", '""', "gn", "90000"]
    config = Config(name="x", optimizer=OptimizerConfig(steps=7))
    rows = run_tables.differing(config).rows
    assert rows == [["name", "x", "experiment"], ["optimizer.steps", "7", "90000"]]


def test_long_curves_are_averaged_in_groups():
    steps = np.arange(1.0, 2 * POINTS + 2)
    values = np.where(steps == 2, np.nan, steps)
    at, mean = thin(steps, values)
    assert len(at) == len(mean) <= POINTS
    assert mean[0] == 2.0 and at[0] == 3.0  # of 1 and 3, without the NaN between them
    assert at[-1] == steps[-1] and mean[-1] == pytest.approx(values[3 * (len(at) - 1) :].mean())
    few = thin(np.array([5.0]), np.array([math.nan]))
    assert few[0].tolist() == [5.0] and math.isnan(few[1][0])
