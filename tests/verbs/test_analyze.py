"""`analyze` from files to tables, JSON and a page that needs nothing else."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pse_jax.__main__ import main
from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.coco import METRICS, evaluate_coco
from pse_jax.evaluation.correlation import correlations
from pse_jax.evaluation.matching import best_iou
from pse_jax.evaluation.oracles import with_iou_scores
from pse_jax.evaluation.tide import ERRORS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve images of squares, with detections whose scores know little of their IoU."""
    folder = tmp_path_factory.mktemp("analyze")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations, results = [], [], []
    for image in range(1, 13):
        picture = Image.new("RGB", (160, 120), "#456")
        pen = ImageDraw.Draw(picture)
        for _ in range(3):
            x, y, size = *rng.integers(0, 80, 2).tolist(), int(rng.integers(12, 40))
            label = int(rng.integers(1, 3))
            pen.rectangle((x, y, x + size, y + size), fill="#e94" if label == 1 else "#7c3")
            row = {"image_id": image, "category_id": label}
            box = {"bbox": [x, y, size, size], "area": size * size, "iscrowd": 0}
            annotations.append({**row, **box, "id": len(annotations)})
            for shift in (1, 3, 6):
                moved = [x + shift, y - shift, size + shift, size]
                results.append({**row, "bbox": moved, "score": round(float(rng.random()), 3)})
        picture.save(folder / "images" / f"{image}.jpg")
        images.append({"id": image, "file_name": f"{image}.jpg", "width": 160, "height": 120})
    categories = [{"id": 1, "name": "<b>orange</b>"}, {"id": 2, "name": "green"},
                  {"id": 3, "name": "absent"}]  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def run(files, *more):
    return main(
        ["analyze", "--annotations", str(files / "instances.json"),
         "--detections", str(files / "results.json"), *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(files):
    assert run(files, "--images", str(files / "images"), "--examples", "4") == 0
    return files / "analysis"


def test_the_numbers(files, report):
    content = json.loads((report / "analysis.json").read_text(), parse_constant=pytest.fail)
    truth = load_ground_truth(files / "instances.json")
    found = load_results(files / "results.json", truth)
    expected = evaluate_coco(truth, found)
    for name in METRICS:
        value = content["coco"][name]
        assert value is None if np.isnan(expected[name]) else value == expected[name]
    scores, ious = found.scores, best_iou(truth, found)
    table = content["correlation"]["all"]
    assert table == {"count": len(found), **correlations(scores, ious)}
    assert content["counts"]["detections"] == len(found) == 108
    ladder = content["oracles"]
    assert ladder["transported"]["AP"] >= ladder["plain"]["AP"] == content["coco"]["AP"]
    assert 0 < content["ranking"]["inversion_rate"] < 1
    assert len(content["ranking"]["per_image"]) == content["ranking"]["rho_img_images"] == 12
    assert sum(content["calibration"]["bins"]["count"]) == 108
    assert content["classes"][2]["AP"] is None and content["classes"][2]["objects"] == 0
    assert len(content["examples"]) == 4
    for example in content["examples"]:
        better, worse = example["better_box"], example["better_score"]
        assert better["iou"] > worse["iou"] and better["score"] < worse["score"]
        assert found.scores[better["index"]] == better["score"]


def test_the_page_needs_nothing_else(report):
    page = (report / "report.html").read_text()
    assert (
        "http:" not in page
        and "https:" not in page
        and "//" not in re.sub(r"base64,[^\"]*", "", page)
    )
    sources = re.findall(r'src="([^"]{0,20})', page)
    content = json.loads((report / "analysis.json").read_text())
    errors = sum(map(len, content["worst_errors"].values()))
    assert errors and len(sources) == 8 + 4 + errors  # figures, examples, errors
    assert all(source.startswith(("data:image/svg+xml", "data:image/jpeg")) for source in sources)
    assert "@import" not in page and "url(" not in page
    assert "<b>orange" not in page and "&lt;b&gt;orange" in page


def test_the_tables(files, capsys):
    assert run(files, "--out", str(files / "elsewhere")) == 0
    text = capsys.readouterr().out
    for word in ("Oracle ladder", "PCC", "rho_img", "inversion rate", "LaECE", "localisation"):
        assert word in text
    assert max(len(line) for line in text.splitlines() if "elsewhere" not in line) <= 110
    page = (files / "elsewhere" / "report.html").read_text()
    assert "--images DIR" in page and "data:image/jpeg" not in page


def test_lists_of_the_worst(report):
    content = json.loads((report / "analysis.json").read_text())
    for image in content["worst_images"]:
        assert image["errors"] == sum(image[kind] for kind in ERRORS) > 0
    errors = [image["errors"] for image in content["worst_images"]]
    assert errors == sorted(errors, reverse=True)
    for kind, entries in content["worst_errors"].items():
        assert len({entry["image_id"] for entry in entries}) == len(entries) <= 4
        scores = [entry["detection"]["score"] for entry in entries if entry["detection"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == (0 if kind == "missed" else len(entries))
    assert content["worst_errors"]["localisation"]
    counts = np.array(content["confusion"]["counts"])
    assert content["confusion"]["labels"][-1] == "background"
    assert counts[:-1].sum() == content["counts"]["objects"]


def test_correlations_of_few_detections_are_marked(files, tmp_path, capsys):
    rows = json.loads((files / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(rows[:9]))
    arguments = ["analyze", "--annotations", str(files / "instances.json"), "--tables", "none"]
    assert main([*arguments, "--detections", str(tmp_path / "results.json")]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("all "))
    assert line.count("*") == 3  # PCC, SCC and KCC of 9 detections
    assert text.count("* of fewer than 10 detections") == 2
    assert "* of fewer than 10" in (tmp_path / "analysis" / "report.html").read_text()
    assert not (tmp_path / "analysis" / "tables").exists()


def test_tables_and_plots_as_files(files, tmp_path):
    kinds = ["--tables", "csv,latex", "--plots", "svg,pdf"]
    assert run(files, "--out", str(tmp_path), *kinds) == 0
    content = json.loads((tmp_path / "analysis.json").read_text())
    rows = list(csv.DictReader((tmp_path / "tables" / "classes.csv").open()))
    assert [row["class"] for row in rows] == ["<b>orange</b>", "green", "absent"]
    assert [float(row["AP"]) for row in rows[:2]] == [row["AP"] for row in content["classes"][:2]]
    assert rows[2]["AP"] == "" and rows[2]["objects"] == "0"
    coco = list(csv.DictReader((tmp_path / "tables" / "coco.csv").open()))
    assert {row["metric"]: row["value"] for row in coco}["AP50"] == str(content["coco"]["AP50"])
    names = {file.stem for file in (tmp_path / "tables").glob("*.tex")}
    assert names == {file.stem for file in (tmp_path / "tables").glob("*.csv")} > {"confusion"}
    magic = {"svg": b"<?xml", "pdf": b"%PDF"}
    for kind, start in magic.items():
        plots = list((tmp_path / "plots").glob(f"*.{kind}"))
        assert len(plots) == 8 and all(file.read_bytes().startswith(start) for file in plots)


def test_scores_that_are_no_probabilities(files, tmp_path, capsys):
    rows = json.loads((files / "results.json").read_text())
    logits = [{**row, "score": 8 * row["score"] - 4} for row in rows]
    (tmp_path / "results.json").write_text(json.dumps(logits))
    arguments = ["analyze", "--annotations", str(files / "instances.json")]
    assert main([*arguments, "--detections", str(tmp_path / "results.json")]) == 0
    assert "need probabilities" in capsys.readouterr().out
    content = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    assert content["calibration"] is None and "sigmoid" in content["calibration_note"]
    assert content["classes"][0]["LaECE"] is None and content["coco"]["AP"] > 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", ["no detections", "score threshold"]),
        ('[{"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 1}]', ["id 9"]),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": NaN}]', ["nan"]),
    ],
)
def test_bad_files_end_with_one_line(files, tmp_path, capsys, content, words):
    (tmp_path / "results.json").write_text(content)
    arguments = ["analyze", "--annotations", str(files / "instances.json")]
    assert main([*arguments, "--detections", str(tmp_path / "results.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    for word in ["results.json", *words]:
        assert word in error
    assert not (tmp_path / "analysis").exists()


def test_missing_images_are_counted(files, tmp_path, capsys):
    (tmp_path / "1.jpg").touch()
    assert run(files, "--images", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "11 of 12" in error and "'2.jpg'" in error and "leave --images out" in error
    assert run(files, "--images", str(tmp_path / "absent")) == 2
    assert "no such folder" in capsys.readouterr().err


def test_several_results_files(files, tmp_path, capsys):
    """The same boxes with their IoUs as scores are better than with random scores."""
    truth = load_ground_truth(files / "instances.json")
    found = load_results(files / "results.json", truth)
    ideal = with_iou_scores(found, best_iou(truth, found))
    (tmp_path / "ideal.json").write_text(json.dumps(ideal.to_coco(truth)))
    more = [str(tmp_path / "ideal.json"), "--out", str(tmp_path / "both"), "--resamples", "50"]
    assert run(files, *more, "--labels", "random", "by IoU", "--tables", "csv,latex") == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if "wrote" not in line) <= 110
    content = json.loads((tmp_path / "both" / "comparison.json").read_text())
    ap = content["metrics"]["AP"]
    gain = ap["by IoU"]["difference"]
    assert gain["value"] == pytest.approx(ap["by IoU"]["value"] - ap["random"]["value"])
    assert 0 < gain["low"] < gain["value"] < gain["high"] and "difference" not in ap["random"]
    words = f"+{gain['value'] * 100:.1f}* [+{gain['low'] * 100:.1f}, +{gain['high'] * 100:.1f}]"
    assert words in " ".join(text.split())
    assert "12 images" in text and "50 resamples, seed 0" in text
    for label in ("random", "by IoU"):
        single = json.loads((tmp_path / "both" / label / "analysis.json").read_text())
        assert single["coco"]["AP"] == pytest.approx(ap[label]["value"], abs=1e-12)
    page = (tmp_path / "both" / "report.html").read_text()
    assert 'href="by%20IoU/report.html"' in page and "&lt;b&gt;orange" in page
    contents = page.split('<nav aria-label="Contents">')[1].split("</nav>")[0]
    sections = re.findall(r'<a href="#(\w+)">(.*)</a>', contents)
    assert sections == [("together", "Side by side"), ("less_1", "by IoU less random")]
    assert re.findall(r'<section id="(\w+)">\n<h2>(.*)</h2>', page) == sections
    assert (tmp_path / "both" / "tables" / "classes.tex").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--labels", "a", "b"], "names 2 of 1"),
        (["--labels", "a/b"], "folder's name"),
        (["--tables", "xls"], "'xls' is not one of csv, latex"),
        (["--resamples", "-1"], "must be 0 or more"),
    ],
)
def test_wrong_flags(files, capsys, flags, words):
    assert run(files, *flags) == 2
    assert words in capsys.readouterr().err


def test_two_files_of_one_name_need_labels(files, capsys):
    assert run(files, str(files / "results.json")) == 2
    assert "--labels" in capsys.readouterr().err


def test_boxes_in_another_format_are_an_error(files, tmp_path, capsys):
    rows = json.loads((files / "results.json").read_text())
    for row in rows:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x / 160, y / 120, (x + w) / 160, (y + h) / 120]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    arguments = ["analyze", "--annotations", str(files / "instances.json")]
    assert main([*arguments, "--detections", str(tmp_path / "results.json")]) == 2
    error = capsys.readouterr().err
    assert (
        "boxes look like normalised xyxy: only 0 of the 36 best-scored" in error
        and "read so" in error
    )
    assert not (tmp_path / "analysis").exists()
