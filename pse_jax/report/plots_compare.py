"""Figures of a comparison of detectors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pse_jax.evaluation.comparison import METRICS, Comparison
from pse_jax.evaluation.curves import Curves
from pse_jax.report.plots_classes import shortened
from pse_jax.report.style import BLUE, COLOURS, INK, ORANGE, styled
from pse_jax.report.tables_compare import SHOWN

STYLES = ("-", "--", "-.", ":")
MOST = 40  # classes in a figure


@styled(grid=True)
def mean_curves(curves: Sequence[Curves], labels: Sequence[str]) -> Figure:
    """The mean precision-recall curve of each detector."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for i, (one, label) in enumerate(zip(curves, labels, strict=True)):
        mean = one.mean
        text = f"{shortened(label)} {mean.mean() * 100:.1f}"
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        axes.plot(one.recall, mean, style, color=colour, lw=1.8, label=text)
    axes.set(xlabel="recall", ylabel=f"precision at IoU {curves[0].iou:g}, mean over classes")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    title = f"AP{curves[0].iou * 100:g}"
    figure.legend(loc="outside right upper", title=title, alignment="left")
    return figure


@styled(grid=True)
def differences(comparison: Comparison, detector: int) -> Figure:
    """How the AP of all and of each class differs from the first detector's, with intervals."""
    changes = [(SHOWN[n][0], comparison.metric(n, detector, 0)) for n in METRICS[:3]]
    changes = [(name.removesuffix(" (%)") + ", all", change) for name, change in changes]
    of_class = [
        (shortened(name), comparison.of_class(k, detector, 0))
        for k, name in enumerate(comparison.names)
    ]
    of_class = [pair for pair in of_class if not np.isnan(pair[1].value)]
    of_class.sort(key=lambda pair: -abs(pair[1].value))
    of_class = sorted(of_class[:MOST], key=lambda pair: -pair[1].value)
    rows = [*changes, *of_class]
    figure = Figure(figsize=(5.4, 0.9 + 0.19 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=INK, lw=1)
    axes.axhline(len(changes) - 0.5, color=INK, lw=0.6)
    for place, (_, change) in enumerate(rows):
        colour = BLUE if change.value >= 0 else ORANGE
        sure = change.differs
        axes.plot([100 * change.low, 100 * change.high], [place] * 2, color=colour, lw=1.6)
        face = colour if sure else "white"
        axes.plot(100 * change.value, place, "o", color=colour, mfc=face, ms=4.5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(
        f"AP (%) of {shortened(comparison.labels[detector])} less {shortened(comparison.labels[0])}"
    )
    axes.grid(axis="y", visible=False)
    return figure
