"""Figures of all classes at once, for a few and for many: precision-recall and confusion."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pse_jax.evaluation.confusion import Confusion
from pse_jax.evaluation.curves import Curves
from pse_jax.report.style import BLUE, COLOURS, GREY, INK, styled

FEW = 6  # classes that have a colour each; of more, the best and the worst three have one
ANNOTATED = 12  # classes whose cells have their numbers written in


@styled(grid=True)
def precision_recall(curves: Curves) -> Figure:
    """Precision against recall, of each class and their mean."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    present = np.flatnonzero(~np.isnan(curves.ap))
    present = present[np.argsort(-curves.ap[present], kind="stable")]
    named, rest = present, present[:0]
    if len(present) > FEW:
        named, rest = np.concatenate([present[:3], present[-3:]]), present[3:-3]
    if len(rest):
        alpha = max(0.45, 1 - len(rest) / 80)
        lines = axes.plot(curves.recall, curves.precision[rest].T, color=GREY, lw=0.8, alpha=alpha)
        lines[0].set_label(f"{len(rest)} other classes")
    for place, (row, colour) in enumerate(zip(named, COLOURS[1:], strict=False)):
        style = "-" if place < 3 else "--"  # the worst three, too, differ without their colours
        label = f"{shortened(curves.names[row])} {curves.ap[row] * 100:.1f}"
        axes.plot(curves.recall, curves.precision[row], style, color=colour, lw=1.4, label=label)
    mean = curves.mean
    axes.plot(curves.recall, mean, color=BLUE, lw=2.6, label=f"mean {mean.mean() * 100:.1f}")
    axes.set(
        xlabel="recall", ylabel=f"precision at IoU {curves.iou:g}", xlim=(0, 1), ylim=(0, 1.01)
    )
    figure.legend(loc="outside right upper", title=f"AP{curves.iou * 100:g}", alignment="left")
    return figure


@styled()
def confusion(matrix: Confusion) -> Figure:
    """The share of each class's objects that is found as each class; of detections, by object."""
    size = len(matrix.labels)
    few = size <= ANNOTATED + 1
    side = 5.4 if few else min(5.4 + 0.04 * size, 9.0)
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axes = figure.subplots()
    shares = np.ma.masked_invalid(matrix.shares)
    # The square root shows what is rare, and leaves 0 white.
    axes.set_facecolor("#f0f1f3")  # of a row without objects
    colours = axes.pcolormesh(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, rasterized=not few)
    axes.set(aspect="equal", xlabel="detected as", ylabel="object")
    axes.invert_yaxis()
    for line in (axes.axhline, axes.axvline):
        line(size - 1, color=INK, lw=0.8)
    letters = 8.5 if few else max(3.2, 330 / size * side / 5.4 / 2)
    names = [shortened(name, 16) for name in matrix.names]
    places, turn = np.arange(size) + 0.5, 90 if size > 6 else 0
    axes.set_xticks(places, [*names, "missed"], rotation=turn, fontsize=letters)
    axes.set_yticks(places, [*names, "background"], fontsize=letters)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if few:
        _annotate(axes, matrix, letters)
    bar = figure.colorbar(colours, ax=axes, pad=0.02, shrink=0.6, label="share of the row (%)")
    ticks = np.array([0, 1, 5, 10, 25, 50, 100])
    bar.set_ticks(np.sqrt(ticks / 100).tolist(), labels=[f"{tick}" for tick in ticks])
    bar.outline.set_visible(False)  # pyright: ignore
    return figure


def _annotate(axes: Axes, matrix: Confusion, letters: float) -> None:
    """Writes the number into each cell, and its share of the row where there is room."""
    size = len(matrix.labels)
    for i, j in np.ndindex(size, size):
        count, share = matrix.counts[i, j], matrix.shares[i, j]
        if count:
            text = f"{count:,}\n{share * 100:.0f}%" if size <= 8 else f"{count:,}"
            colour = "white" if share > 0.36 else INK
            place = (j + 0.5, i + 0.5)
            axes.text(*place, text, color=colour, fontsize=letters - 1, ha="center", va="center")


def shortened(name: str, length: int = 22) -> str:
    """A name for a legend, which a long one would push the axes out of."""
    return name if len(name) <= length else name[: length - 1] + "…"
