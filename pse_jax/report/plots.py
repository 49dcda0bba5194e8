"""The figures of report.html, and the density that Fig. 2(a) is drawn with too."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pse_jax.evaluation import calibration
from pse_jax.evaluation.tide import ERRORS
from pse_jax.report.style import BLUE, COUNTS, GREY, INK, ORANGE, styled

DASHED = {"color": INK, "lw": 1, "ls": "--"}


def _figure(height: float, rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """A figure and its axes."""
    figure = Figure(figsize=(5.4, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def _legend(figure: Figure) -> None:
    """One legend above the axes, where it hides nothing."""
    handles, labels = [], []
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.append(handle)
            labels.append(label)
    figure.legend(handles, labels, loc="outside upper left", ncols=2 if len(labels) == 4 else 3)


def density(
    axes: Axes,
    counts: Float[np.ndarray, "s i"],
    score_edges: Float[np.ndarray, " s+1"],
    iou_edges: Float[np.ndarray, " i+1"],
    **colorbar: Any,
) -> Colorbar:
    """Paints how many detections have which score and IoU, and a bar of the colours beside it."""
    shown, norm = np.ma.masked_equal(counts.T, 0), LogNorm(1, max(counts.max(), 2))
    mesh = axes.pcolormesh(score_edges, iou_edges, shown, cmap=COUNTS, norm=norm, rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, **colorbar)
    subs = (1, 2, 5) if counts.max() < 100 else (1,)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=subs))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return bar


@styled(grid=True)
def scatter(scores: Float[np.ndarray, "d"], ious: Float[np.ndarray, "d"]) -> Figure:
    """How many detections have which score and IoU, and the mean IoU at each score (Fig. 2(a))."""
    figure, axes = _figure(4.2)
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    edges, vertical = np.linspace(low, high, 61), np.linspace(0, 1, 61)
    density(axes, *np.histogram2d(scores, ious, bins=(edges, vertical)), label="detections")
    number, coarse = np.histogram(scores, edges[::3])
    enough = number >= 5
    mean = np.histogram(scores, coarse, weights=ious)[0][enough] / number[enough]
    centres = (coarse[:-1] + coarse[1:])[enough] / 2
    axes.plot(centres, mean, "o-", color=ORANGE, lw=2, ms=3.5, label="mean IoU at this score")
    if (low, high) == (0.0, 1.0):
        axes.plot([0, 1], [0, 1], label="score = IoU", **DASHED)
    axes.set(xlabel="score", ylabel="IoU with the best object of its class")
    axes.set(xlim=(low, high), ylim=(0, 1))
    _legend(figure)
    return figure


@styled(grid=True)
def reliability(bins: dict[str, Any]) -> Figure:
    """Mean IoU in each bin of scores beside the diagonal, and the number of detections in it."""
    count, iou, precision = (np.asarray(bins[key]) for key in ("count", "iou", "precision"))
    width = 1 / len(count)
    centres = (np.arange(len(count)) + 0.5) * width
    figure, (top, bottom) = _figure(4.2, 2, sharex=True, height_ratios=(3, 1))
    top.bar(centres, iou, width * 0.9, color=BLUE, label="mean IoU, its own object")
    top.plot(centres, precision, "o", ms=3.5, color=ORANGE, label="precision at IoU 0.5")
    top.plot([0, 1], [0, 1], label="calibrated", **DASHED)
    top.set(ylabel="mean IoU", xlim=(0, 1), ylim=(0, 1.03))
    _legend(figure)
    bottom.bar(centres, count, width * 0.9, color=GREY)
    bottom.set(xlabel="score", ylabel="detections", yscale="log", ylim=(0.8, None))
    bottom.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bottom.yaxis.set_minor_formatter(NullFormatter())
    return figure


@styled(grid=True)
def ladder(oracles: dict[str, Any]) -> Figure:
    """AP, AP50 and AP75 under the three rankings."""
    figure, axes = _figure(3.2)
    metrics = {"AP50": GREY, "AP": BLUE, "AP75": "#7fb3cc"}
    for offset, (metric, colour) in enumerate(metrics.items()):
        values = [oracles[key][metric] * 100 for key in ("plain", "transported", "iou")]
        spots = np.arange(3) + (offset - 1) * 0.27
        bars = axes.bar(spots, values, 0.25, color=colour, label=metric)
        axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.set_xticks(range(3), ["as they are", "scores in\norder of IoU", "score := IoU"])
    axes.set(ylabel="%", ylim=(0, 108), yticks=range(0, 101, 20))
    axes.grid(axis="x", visible=False)
    _legend(figure)
    return figure


@styled(grid=True)
def errors(content: dict[str, Any]) -> Figure:
    """The AP50 that each kind of error costs, and its count above the best thresholds."""
    figure, (left, right) = _figure(3.0, 1, 2)
    costs = [content["delta_ap50"][kind] * 100 for kind in ERRORS]
    counts = [content["counts_at_best_threshold"][kind] for kind in ERRORS]
    for axes, values, form, colour in ((left, costs, "%.1f", BLUE), (right, counts, "{:,}", GREY)):
        axes.bar_label(axes.barh(list(ERRORS), values, 0.62, color=colour), fmt=form, padding=3)
        axes.set_xlim(0, max(*values, 1e-9) * 1.2)
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
    left.set_xlabel("AP50 gained by a fix")
    right.set_xlabel("count above the best thresholds")
    right.tick_params(labelleft=False)
    return figure


@styled(grid=True)
def f1(scores: Float[np.ndarray, "d"], correct: Bool[np.ndarray, "d"], objects: int) -> Figure:
    """F1, precision and recall against one threshold for all classes."""
    levels, values = calibration.f1_curve(scores, correct, objects)
    step = max(1, len(levels) // 400)  # a curve needs no more points than pixels
    figure, axes = _figure(3.0)
    looks = {"F1": (BLUE, 2.2), "precision": (ORANGE, 1.3), "recall": (GREY, 1.8)}
    for column, (name, (colour, width)) in enumerate(looks.items()):
        axes.plot(levels[::step], values[::step, column], color=colour, lw=width, label=name)
    best = levels[int(np.argmax(values[:, 0]))]
    axes.axvline(best, label=f"best: {best:.3f}", **DASHED)
    axes.set(xlabel="score threshold", ylim=(0, 1))
    _legend(figure)
    return figure


@styled(grid=True)
def image_ranks(rho: Float[np.ndarray, "i"]) -> Figure:
    """The distribution of rho_img over the images."""
    figure, axes = _figure(3.0)
    axes.hist(rho, bins=np.linspace(-1, 1, 41).tolist(), color=BLUE)
    if rho.size:
        axes.axvline(rho.mean(), label=f"mean {rho.mean():.3f}", **DASHED)
        _legend(figure)
    axes.set(xlabel="Spearman's rho of score and IoU", ylabel="images", xlim=(-1, 1))
    return figure
