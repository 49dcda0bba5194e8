"""Where the scores of positives end up, against where their loss alone would have them."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from pse_jax.config import LossConfig
from pse_jax.experiments import landscape
from pse_jax.experiments.figures.scatter import BINS, EDGES, Density
from pse_jax.report import style
from pse_jax.report.plots import density

COARSE = 16  # bins of the IoU, of which each has points enough for quartiles
FEWEST = 30  # points of a bin that is shown
QUARTILES = (0.25, 0.5, 0.75)


def quartiles(points: Density) -> tuple[Float[np.ndarray, " i"], Float[np.ndarray, "i 3"]]:
    """The quartiles of the score in each bin of the IoU.

    Returns:
        The middles of the bins, and the quartiles, to a fraction of a bin of 1/64; NaN where a bin
        has fewer than 30 points.
    """
    counts = points.counts.reshape(BINS, COARSE, BINS // COARSE).sum(axis=-1).T  # [i, s]
    below = np.concatenate([np.zeros((COARSE, 1)), counts.cumsum(axis=1)], axis=1)
    total = below[:, -1]
    found = np.full((COARSE, len(QUARTILES)), np.nan)
    for row in np.flatnonzero(total >= FEWEST):
        found[row] = np.interp(np.array(QUARTILES) * total[row], below[row], EDGES)
    return (np.arange(COARSE) + 0.5) / COARSE, found


def table_of(points: Density, loss: LossConfig) -> list[dict[str, float]]:
    """The numbers of a panel, one row for each bin of the IoU; NaN for what is not there."""
    middles, found = quartiles(points)
    settles = np.full(COARSE, np.nan)
    if not landscape.couples_positives(loss):
        settles = landscape.stationary_scores(middles, loss)
    columns = ("iou", "lower_quartile", "median", "upper_quartile", "settles")
    rows = np.column_stack([middles, found, settles]).round(4)
    return [dict(zip(columns, row, strict=True)) for row in rows.tolist()]


@style.styled()
def draw_settled(runs: Mapping[str, tuple[Density, LossConfig]]) -> Figure:
    """One panel per run: density, quartiles and, where its loss has one, the stationary curve.

    Args:
        runs: by label, the (score, IoU) of the candidate locations and the loss that trained it.
    """
    columns = min(len(runs), 3)
    lines = -(-len(runs) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.3, 2.25 * lines + 0.75), layout="compressed")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    ious = np.linspace(0, 1, 101)
    handles = {}
    for axes, (label, (points, loss)) in zip(grid.ravel(), runs.items(), strict=False):
        bar = density(axes, points.counts.T, EDGES, EDGES, aspect=28)
        bar.ax.tick_params(labelsize=7.5)
        bar.outline.set_visible(False)  # pyright: ignore
        middles, found = quartiles(points)
        low, middle, high = found.T
        spread = np.abs(np.stack([middle - low, high - middle]))
        look = {"color": style.INK, "ms": 3.5, "lw": 1.0, "capsize": 1.5}
        handles["quartiles of the score"] = axes.errorbar(middles, middle, spread, fmt="o", **look)
        if not landscape.couples_positives(loss):
            curve = landscape.stationary_scores(ious, loss)
            (line,) = axes.plot(ious, curve, color=style.ORANGE, lw=2.0)
            handles["where the loss settles"] = line
        axes.plot([0, 1], [0, 1], color=style.GREY, lw=0.9, ls=(0, (1, 2)))
        axes.set(title=label, xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for axes in grid.ravel()[len(runs) :]:
        axes.set_axis_off()
    for axes in grid.ravel()[: len(runs)][-columns:]:  # the lowest of each column
        axes.set_xlabel(r"IoU $\hat{I}$")
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(r"score $\hat{P}$")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure
