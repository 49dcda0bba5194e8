"""The figures: what they show against plain Python, and files that hold a picture."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pse_jax import models
from pse_jax.config import LossConfig
from pse_jax.data import sources
from pse_jax.detector import Detector
from pse_jax.errors import ConfigError, UserError
from pse_jax.evaluation.matching import best_iou
from pse_jax.experiments.figures import examples, lost, scatter, settled, surfaces
from pse_jax.experiments.figures.inspect import InspectedImage, inspect_dataset, inspect_image
from pse_jax.experiments.figures.runs import look_at
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS
from pse_jax.models import Predictions
from pse_jax.points import locations
from pse_jax.postprocess import PaddedDetections
from pse_jax.report import style
from pse_jax.runs.checkpoint import save_detector
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run
from pse_jax.runs.predict import predict
from pse_jax.verbs import draw
from pse_jax.verbs import figures as command
from tests import tiny, tiny_run
from tests.oracles import loop_iou, loop_nms

# Fig. 3


def focal_and_pse(p, iou, beta):
    """Loss and gradient by the logit, from Eq. (4) and (8) with α = 0.25, γ = 2, k = 1."""
    loss = -0.25 * (1 - p) ** 2 * math.log(p) + beta * (p - iou) ** 2
    by_score = 0.5 * (1 - p) * math.log(p) - 0.25 * (1 - p) ** 2 / p + 2 * beta * (p - iou)
    return loss, by_score * p * (1 - p)


def test_the_surfaces_are_those_of_the_equations():
    for (_, loss), beta in zip(surfaces.columns_of("pse"), (0.0, 0.25, 1.0), strict=True):
        grid = surfaces.surface(loss, points=9)
        assert grid.scores[[0, -1]].tolist() == [0.001, 0.999]
        assert grid.ious[[0, -1]].tolist() == [0.001, 1.0]
        for i, p in enumerate(grid.scores):
            for j, iou in enumerate(grid.ious):
                value, slope = focal_and_pse(p, iou, beta)
                assert grid.loss[i, j] == pytest.approx(value, abs=1e-9)
                assert grid.gradient[i, j] == pytest.approx(slope, abs=1e-9)


def test_a_loss_that_couples_positives_has_no_surface():
    with pytest.raises(ConfigError, match="no loss 'pearson' to draw"):
        surfaces.loss_of("pearson")
    rows = ASSOCIATIONS | CLASSIFICATIONS
    assert set(surfaces.NAMES) == {name for name, row in rows.items() if not row.couples}
    titles = [title for title, _ in surfaces.columns_of("qfl")]
    assert titles == ["focal", "QFL"]


@pytest.fixture(scope="module")
def valleys():
    return surfaces.valleys_of(["pse", "qfl"])


def test_the_stationary_curve(valleys):
    """γ = 2, β = 1: the values of the paper's corrected curve, and a gradient of nothing there."""
    wanted = {0: 0.339, 0.1: 0.379, 0.3: 0.472, 0.5: 0.590, 0.7: 0.733, 0.9: 0.904, 1: 1.0}
    for iou, score in wanted.items():
        at = int(np.argmin(np.abs(surfaces.IOUS - iou)))
        assert valleys["pse"][at] == pytest.approx(score, abs=6e-4)
        if 0 < score < 1:
            assert abs(focal_and_pse(valleys["pse"][at], iou, 1.0)[1]) < 1e-6
    np.testing.assert_allclose(valleys["qfl"], surfaces.IOUS, atol=1e-5)


def assert_picture(file, colours=30):
    """A PNG with something on it, and a PDF beside it."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > colours and 0.01 < (pixels < 250).any(axis=1).mean()
    pdf = file.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and b"%%EOF" in pdf[-20:]


@pytest.mark.slow
def test_the_figures_of_losses(valleys, tmp_path, monkeypatch):
    curve = valleys["pse"]  # stands in for all others, which take seconds to find
    settle = lambda ious, _: np.interp(ious, surfaces.IOUS, curve)  # noqa: E731
    monkeypatch.setattr(surfaces.landscape, "stationary_scores", settle)
    six = surfaces.draw_surfaces("pse", points=12)
    assert [axes.get_title()[:3] for axes in six.axes] == ["(a)", "(d)", "(b)", "(e)", "(c)", "(f)"]
    for axes in six.axes:
        assert axes.get_xlabel() and axes.get_ylabel() and axes.get_zlabel()
    family = surfaces.draw_gradients(valleys, points=12)
    assert [axes.get_title() for axes in family.axes[:2]] == ["PSE", "QFL"]
    curves = surfaces.draw_valleys(valleys)
    assert [text.get_text() for text in curves.axes[1].get_legend().get_texts()] == ["PSE", "QFL"]
    for name, figure in (("six", six), ("curves", curves)):
        assert_picture(style.save(figure, tmp_path, name)[0])


def test_curves_that_coincide_share_a_line(valleys):
    same = {"qfl": valleys["qfl"], "vfl": valleys["qfl"] + 0.001, "pse": valleys["pse"]}
    assert [label for label, _ in surfaces._together(same)] == ["QFL, VFL", "PSE"]


# Fig. 2(a)


def test_a_density_in_parts_has_the_correlation_of_the_whole(rng):
    scores = rng.random(5000)
    ious = np.clip(0.6 * scores + rng.normal(0, 0.2, 5000), 0, 1)
    density = scatter.Density()
    for part in np.array_split(np.arange(5000), 7):
        density.add(scores[part].astype(np.float32), ious[part])
    assert density.number == density.counts.sum() == 5000
    assert density.pcc == pytest.approx(stats.pearsonr(scores, ious).statistic, abs=1e-6)
    i, j = int(scores[0] * scatter.BINS), min(int(ious[0] * scatter.BINS), scatter.BINS - 1)
    assert density.counts[i, j] >= 1


def test_a_correlation_that_is_undefined():
    empty, constant = scatter.Density(), scatter.Density()
    constant.add(np.full(5, 0.3), np.linspace(0, 1, 5))
    assert math.isnan(empty.pcc) and math.isnan(constant.pcc)
    figure = scatter.draw_scatter({"a": {"x": empty, "y": constant}})
    assert "PCC nan" not in figure.axes[0].texts[0].get_text()


# Fig. 2(b)


def an_image(candidates, found, objects, index=0, scale=1.0):
    def boxes(rows):
        box, score, label = ([row[i] for row in rows] for i in range(3))
        return PaddedDetections(
            np.array(box, np.float32).reshape(-1, 4),
            np.array(score, np.float32),
            np.array(label, np.int32),
            np.ones(len(rows), bool),
        )

    return InspectedImage(
        index=index,
        scale_xy=np.array([scale, scale]),
        location_scores=np.zeros(0, np.float32),
        location_ious=np.zeros(0, np.float32),
        candidates=boxes(candidates),
        found=boxes(found),
        object_boxes=np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
        object_labels=np.array([label for _, label in objects], np.int32),
    )


OBJECT = ([0, 0, 10, 10], 1)
KEPT = ([0, 0, 10, 7], 0.79, 1)  # IoU 0.7
BETTER = ([0, 0, 10, 9], 0.76, 1)  # IoU 0.9; 7/9 with the one that was kept
BEST = ([0, 0, 10, 10], 0.5, 1)  # IoU 1; 0.7 with the one that was kept


def test_the_best_of_the_boxes_that_nms_removed_is_the_one_that_was_lost():
    image = an_image([KEPT, BETTER, BEST], [KEPT], [OBJECT], index=7, scale=2.0)
    (one,) = lost.lost_boxes(image, 0.6)
    assert one.index == 7 and one.label == 1
    assert one.iou_kept == pytest.approx(0.7) and one.iou_lost == pytest.approx(1.0)
    assert one.score_kept == pytest.approx(0.79) and one.score_lost == pytest.approx(0.5)
    assert one.box_kept.tolist() == [0, 0, 20, 14] and one.box_lost.tolist() == [0, 0, 20, 20]
    # With a threshold of 0.75 the best box is not removed in its favour, the better one is.
    (two,) = lost.lost_boxes(image, 0.75)
    assert two.iou_lost == pytest.approx(0.9)


@pytest.mark.parametrize(
    "candidates, found, objects, gaps",
    [
        ([KEPT], [KEPT], [OBJECT], [0]),  # nothing was removed
        ([KEPT, (BETTER[0], 0.7, 2)], [KEPT], [OBJECT], [0]),  # of another class
        ([KEPT, BETTER], [KEPT], [([0, 0, 10, 7], 1)], [0]),  # the better-scored was the better
        ([KEPT, BETTER], [KEPT], [(OBJECT[0], 2)], []),  # no object of that class
        ([], [], [OBJECT], []),
        ([KEPT], [KEPT], [], []),
        # Removed by a stronger box that lies on another object of the class.
        (
            [([0, 0, 10, 6], 0.9, 1), ([0, 0, 10, 9], 0.8, 1)],
            [([0, 0, 10, 6], 0.9, 1)],
            [OBJECT, ([0, 0, 10, 6], 1)],
            [0],
        ),
    ],
)
def test_boxes_that_were_not_lost(candidates, found, objects, gaps):
    results = lost.lost_boxes(an_image(candidates, found, objects), 0.6)
    assert [x.gap for x in results] == gaps


def test_the_first_box_that_overlaps_enough_is_the_one_that_removes():
    """The second detection on an object is not what its removed boxes lost to."""
    second = ([0, 3, 10, 10], 0.7, 1)
    image = an_image([KEPT, second, BEST], [KEPT, second], [OBJECT])
    (one,) = lost.lost_boxes(image, 0.6)
    assert one.score_kept == pytest.approx(0.79) and one.iou_lost == pytest.approx(1.0)
    assert one.removed == 1


def test_inclusive_boxes_overlap_more():
    image = an_image([KEPT, ([0, 0, 10, 10], 0.5, 1)], [KEPT], [OBJECT])
    assert lost.lost_boxes(image, 0.71)[0].gap == 0  # 70/100
    assert lost.lost_boxes(image, 0.71, extent=1.0)[0].gap == pytest.approx(0.3)  # 88/121


def some_lost(index=0, kept=0.5, best=0.8, score=0.5):
    box = np.array([0.0, 0, 10, 10])
    return lost.Lost(index, 0, box, box + 1, score, kept, box + 2, 0.4, best)


def test_the_worst_examples_are_one_an_image_and_widest_first():
    found = [
        some_lost(0, 0.5, 0.7),
        some_lost(0, 0.5, 0.9),
        some_lost(1, 0.5, 0.8),
        some_lost(2, 0.1, 0.45),  # not well placed either
        some_lost(3, 0.2, 0.9, score=0.1),  # nobody was shown it
        some_lost(4, 0.9, 0.9),
    ]
    chosen = lost.worst(found, 5, min_score=0.3)
    assert [(x.index, round(x.gap, 3)) for x in chosen] == [(0, 0.4), (1, 0.3)]
    assert len(lost.worst(found, 1, 0.3)) == 1
    numbers = lost.summary(found, 0.3)
    assert numbers["objects"] == 5 and numbers["better_box_lost"] == 0.8
    assert numbers["mean_iou_kept"] == pytest.approx(0.5)
    assert numbers["mean_iou_best"] == pytest.approx(0.75)
    assert math.isnan(lost.summary([], 0.3)["better_box_lost"])


# Where scores settle


def test_the_quartiles_of_each_bin(rng):
    """Against NumPy's, to the width of a bin of scores."""
    points, scores, ious = scatter.Density(), rng.beta(2, 3, 40_000), rng.beta(3, 2, 40_000)
    points.add(scores, ious)
    middles, found = settled.quartiles(points)
    edges = np.linspace(0, 1, settled.COARSE + 1)
    for row, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = scores[(ious >= low) & (ious < high)]
        assert middles[row] == pytest.approx((low + high) / 2)
        if len(inside) < settled.FEWEST:
            assert np.isnan(found[row]).all()
        else:
            wanted = np.quantile(inside, settled.QUARTILES)
            np.testing.assert_allclose(found[row], wanted, atol=1 / scatter.BINS)
    assert np.isnan(settled.quartiles(scatter.Density())[1]).all()


def test_the_settled_scores_of_runs(rng, tmp_path):
    points = scatter.Density()
    points.add(rng.random(2000), rng.random(2000))
    losses = {"plain": "none", "with PSE": "pse", "by batch": "pearson", "PCE": "pce"}
    runs = {name: (points, LossConfig(association=loss)) for name, loss in losses.items()}
    figure = settled.draw_settled(runs)
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == list(losses)
    curves = [[line for line in a.lines if line.get_color() == style.ORANGE] for a in shown]
    assert [len(lines) for lines in curves] == [1, 1, 0, 1]  # a loss of a batch has no curve
    at = np.asarray(curves[1][0].get_xdata()).searchsorted(0.5)
    assert curves[1][0].get_ydata()[at] == pytest.approx(0.590, abs=6e-4)
    assert_picture(style.save(figure, tmp_path, "settled")[0])
    rows = settled.table_of(*runs["with PSE"])
    assert rows[8]["iou"] == pytest.approx(17 / 32, abs=1e-4)
    assert rows[8]["lower_quartile"] < rows[8]["median"] < rows[8]["upper_quartile"]
    assert 0.590 < rows[8]["settles"] < 0.733
    assert all(math.isnan(row["settles"]) for row in settled.table_of(*runs["by batch"]))


# From a run


def test_the_inspection_against_loops(rng):
    config = tiny_run.config("unused")
    config.inference = dataclasses.replace(config.inference, top_k=10_000, score_threshold=0.4)
    points, _ = locations(64, 64)
    logits = rng.normal(-1, 1, (len(points), 2)).astype(np.float32)
    distances = rng.uniform(2, 30, (len(points), 4)).astype(np.float32)
    objects = np.array([[4, 4, 40, 44], [0, 0, 0, 0]], np.float32)
    inspect = functools.partial(inspect_image, (64, 64), config)
    seen = jax.jit(inspect, compiler_options=tiny.FAST)(
        Predictions(jnp.asarray(logits), jnp.asarray(distances)),
        jnp.array([64, 50]),
        jnp.array(True),
        jnp.asarray(objects),
        jnp.array([1, 0]),
        jnp.array([True, False]),
    )
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(seen["score"], scores.max(axis=1), atol=1e-6)
    boxes = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
    positive = np.flatnonzero(seen["positive"])
    assert 0 < len(positive) < len(points)
    for p in positive:
        assert seen["iou"][p] == pytest.approx(float(loop_iou(boxes[p], objects[0])), abs=1e-5)
    clipped = np.clip(boxes, 0, [50, 64, 50, 64])
    alive = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(axis=1)
    where, label = np.nonzero((scores > 0.4) & alive[:, None])
    tried = seen["candidates"]
    assert int(tried.valid.sum()) == len(where)
    order = np.argsort(-scores[where, label])
    np.testing.assert_allclose(tried.scores[: len(where)], scores[where, label][order], atol=1e-6)
    np.testing.assert_allclose(tried.boxes_xyxy[: len(where)], clipped[where][order], atol=1e-4)
    valid = np.ones(len(where), bool)
    kept = loop_nms(clipped[where], scores[where, label], label, valid, 0.6, 20)
    np.testing.assert_allclose(
        seen["found"].scores[: len(kept)], scores[where, label][kept], atol=1e-6
    )


@pytest.fixture
def run(tmp_path):
    """A run that was never trained: random parameters."""
    config = tiny_run.config(tmp_path / "cache")
    data = sources.open_split(config.data, "val")
    variables = tiny.make_variables(models.create(config.model, len(data.categories)))
    variables["params"]["head"]["box_conv"] = {
        "kernel": 0.02 * variables["params"]["head"]["box_conv"]["kernel"],
        "bias": jnp.full(4, math.log(15.0)),  # boxes of 30 px: some lie on objects
    }
    save_detector(Detector(config, data.categories, variables, 6), Run(tmp_path / "run"))
    return Run(tmp_path / "run"), data


@pytest.mark.slow
def test_the_figures_of_a_run(run, tmp_path, capsys):
    (run, data), out = run, tmp_path / "figures"
    flags = ["--out", str(out), "--workdir", str(run.folder), "--what", "scatter,settled,examples"]
    flags += ["--checkpoint", "latest", "--config.train.compilation_cache=false"]
    assert command.main([*flags, "--min-score", "0"]) == 0
    printed = capsys.readouterr().out
    assert "run: of " in printed and str(out / "scatter.pdf") in printed
    assert_picture(out / "scatter.png")
    assert (out / "settled.csv").read_text().startswith("run,iou,lower_quartile,median,upper_q")
    detector = load_run(run, "latest")
    densities, kept = look_at(detector, data)
    results = predict(detector, data).results
    final = densities["final detections"]
    assert final.number == len(results) > 0
    expected = stats.pearsonr(results.scores, best_iou(data, results)).statistic
    assert final.pcc == pytest.approx(expected, abs=1e-6)
    assert densities["candidate locations"].number > 0 and kept
    shown = [some_lost(0), some_lost(1)]
    figure = examples.draw_examples(shown, data)
    assert_picture(style.save(figure, out, "two")[0])
    assert "score 0.50, IoU 0.50" in [text.get_text() for text in figure.axes[0].texts]


def test_inspection_finds_the_detections_of_prediction(run):
    run, data = run
    detector = load_run(run, "latest")
    results = predict(detector, data).results
    for image in inspect_dataset(detector, data):
        mine = results.image == image.index
        np.testing.assert_array_equal(image.found.scores, results.scores[mine].astype(np.float32))
        np.testing.assert_array_equal(image.found.labels, results.category[mine])


def test_a_sheet_of_detections_is_drawn(run, tmp_path, capsys):
    flags = ["--workdir", str(run[0].folder), "--config.train.compilation_cache=false"]
    flags += ["--count", "3", "--columns", "2", "--size", "96", "--threshold", "0"]
    assert draw.main([*flags, "--out", str(tmp_path / "sheet.png")]) == 0
    assert "drew 3 images" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 4 * 96 < sheet.size[0] < 4 * 96 + 50  # two columns of predictions beside the truth
        assert len(sheet.getcolors(1 << 20) or ()) > 100
    with pytest.raises(UserError, match=r"end the name in \.png"):
        draw.main([*flags, "--out", "sheet.docx"])
    with pytest.raises(UserError, match="--columns is 0; it must be at least 1"):
        draw.main([*flags, "--columns", "0"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--what", "scatter"], "needs --workdir"),
        (["--what", "surface"], "must be some of surfaces"),
        (["--workdir", "a", "b/a"], "runs have the same name"),
        (["--workdir", "a", "b", "--label", "x"], "1 labels for 2 runs"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        command.parse(["--out", "x", *arguments])
