"""Fig. 2(a): scores against IoUs, as densities."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pse_jax.report import style, tables
from pse_jax.report.plots import density

BINS = 64
EDGES = np.linspace(0, 1, BINS + 1)


@dataclasses.dataclass
class Density:
    """Counts and moments of (score, IoU) points, of which there may be too many to keep."""

    counts: Float[np.ndarray, "s i"] = dataclasses.field(
        default_factory=lambda: np.zeros((BINS, BINS))
    )
    number: int = 0
    sums: Float[np.ndarray, " 5"] = dataclasses.field(default_factory=lambda: np.zeros(5))

    def add(self, scores: Float[np.ndarray, " n"], ious: Float[np.ndarray, " n"]) -> None:
        """Adds points; both coordinates are in [0, 1]."""
        s, i = scores.astype(np.float64), np.clip(ious.astype(np.float64), 0.0, 1.0)
        self.counts += np.histogram2d(s, i, bins=(EDGES, EDGES))[0]
        self.number += len(s)
        s, i = s - 0.5, i - 0.5  # small sums keep their digits
        self.sums += (s.sum(), i.sum(), (s * s).sum(), (i * i).sum(), (s * i).sum())

    @property
    def pcc(self) -> float:
        """Pearson's r of all points; NaN where it is undefined."""
        if self.number < 2:
            return math.nan
        s, i, ss, ii, si = self.sums / self.number
        spread = (ss - s * s) * (ii - i * i)
        return (si - s * i) / math.sqrt(spread) if spread > 1e-18 else math.nan


@style.styled()
def draw_scatter(rows: dict[str, dict[str, Density]]) -> Figure:
    """One row per run, one column per scope, of `{run: {scope: density}}`."""
    scopes = list(next(iter(rows.values())))
    size = (2.62 * len(scopes) + 0.4, 2.3 * len(rows) + 0.45)
    figure = Figure(figsize=size, layout="compressed")
    grid = figure.subplots(len(rows), len(scopes), sharex=True, sharey=True, squeeze=False)
    for across, densities in zip(grid, rows.values(), strict=True):
        for axes, points in zip(across, densities.values(), strict=True):
            _paint(axes, points)
    for axes, scope in zip(grid[0], scopes, strict=True):
        axes.set(title=scope)
    for axes in grid[-1]:
        axes.set(xlabel=r"score $\hat{P}$")
    for axes, run in zip(grid[:, 0], rows, strict=True):
        label = r"IoU $\hat{I}$"
        axes.set(ylabel=f"{run}\n{label}" if len(rows) > 1 else label)
    return figure


def _paint(axes: Axes, points: Density) -> None:
    bar = density(axes, points.counts, EDGES, EDGES, aspect=28)
    axes.plot([0, 1], [0, 1], color=style.COLOURS[1], lw=1.6)
    text = f"PCC {tables.number(points.pcc)}\nn = {points.number:,}"
    frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0}
    axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", bbox=frame)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    bar.ax.tick_params(labelsize=7.5)
    bar.ax.set_title("count", fontsize=7.5, pad=4)
    bar.outline.set_visible(False)  # pyright: ignore
