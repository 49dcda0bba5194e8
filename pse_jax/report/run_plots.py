"""The figures of a run's page: curves over its steps, and what its training data hold."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pse_jax.report.labels import LabelStatistics
from pse_jax.report.style import BLUE, COLOURS, GREY, INK, ORANGE, styled

POINTS = 500  # of a curve; more rows than these are averaged in groups
BARS = 30  # classes of the bar chart, the most frequent
Series = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]  # steps and values


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, height), layout="constrained")
    return figure, figure.subplots()


def thin(steps: Float[np.ndarray, "r"], values: Float[np.ndarray, "r"]) -> Series:
    """At most `POINTS` points, each the mean of as many rows; NaN are left out of the means."""
    group = max(1, -(-len(steps) // POINTS))
    starts = np.arange(0, len(steps), group)
    defined = ~np.isnan(values)
    count = np.add.reduceat(defined, starts) if len(steps) else np.zeros(0)
    total = np.add.reduceat(np.where(defined, values, 0.0), starts) if len(steps) else count
    mean = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    return steps[starts + np.minimum(group, len(steps) - starts) - 1], mean


@styled(grid=True)
def curves(series: Mapping[str, Series], total: int, label: str, *, log: bool = False) -> Figure:
    """Values by step, the first of them bold.

    Args:
        series: by the name in the legend.
        total: the last step of the run, at which the axis ends.
        label: of the vertical axis.
        log: whether that is logarithmic.
    """
    figure, axes = _figure(3.0)
    styles = zip(series.items(), (BLUE, ORANGE, *COLOURS[2:]), strict=False)
    for place, ((name, (steps, values)), colour) in enumerate(styles):
        steps, values = thin(steps, values)
        look = {"color": colour, "lw": 1.4 if place else 2.2, "clip_on": False, "zorder": 3}
        look |= {"marker": "o", "ms": 3 if len(steps) > 3 else 5} if len(steps) <= 40 else {}
        axes.plot(steps, values, label=name, **look)
    axes.set(xlabel="step", ylabel=label, xlim=(0, total))
    _whole_steps(axes)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if len(series) > 1:  # beside the data, which may be anywhere
        figure.legend(loc="outside upper center", ncols=min(5, len(series)))
    return figure


def _whole_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


@styled(grid=True)
def class_counts(labels: LabelStatistics) -> Figure:
    """Objects of each class, the most frequent first."""
    order = np.argsort(-labels.objects, kind="stable")[:BARS]
    figure, axes = _figure(max(1.6, 0.9 + 0.19 * len(order)))
    names = [_short(labels.names[i]) for i in order]
    bars = axes.barh(range(len(order)), labels.objects[order], 0.7, color=BLUE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set_yticks(range(len(order)), names)
    axes.set(xlabel="objects", xlim=(0, max(1, labels.objects.max(initial=0)) * 1.16))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    return figure


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


@styled(grid=True)
def box_sizes(labels: LabelStatistics, limits: Sequence[float]) -> Figure:
    """How large the objects are, on a logarithmic scale; `limits` are those between the sizes."""
    figure, axes = _figure(2.8)
    sides = labels.sides
    low, high = (sides.min(), sides.max()) if len(sides) else (1.0, 1.0)
    edges = np.geomspace(max(low * 0.95, 0.5), max(high * 1.05, 2.0), 41)
    axes.hist(sides, bins=edges.tolist(), color=BLUE)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for limit in limits:
        if edges[0] < limit < edges[-1]:
            axes.axvline(limit, color=INK, lw=1, ls="--")
    axes.set(xlabel="√(width × height) of a box, px", ylabel="objects", xlim=edges[[0, -1]])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


@styled(grid=True)
def objects_per_image(labels: LabelStatistics) -> Figure:
    """How many images have how many objects."""
    figure, axes = _figure(2.8)
    most = int(labels.per_image.max(initial=1))
    width = max(1, -(-(most + 1) // 40))
    counts = np.bincount(labels.per_image // width)
    axes.bar(np.arange(len(counts)) * width + (width - 1) / 2, counts, 0.85 * width, color=GREY)
    mean = labels.per_image.mean() if len(labels.per_image) else 0.0
    axes.axvline(mean, label=f"mean {mean:.1f}", color=INK, lw=1, ls="--")
    axes.set(xlabel="objects in an image", ylabel="images")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(loc="outside upper right")
    return figure


@styled()
def shares(seconds: Mapping[str, float]) -> Figure:
    """Where the time went: one bar, a part for each kind of work."""
    figure, axes = _figure(1.3)
    total, left = sum(seconds.values()) or 1.0, 0.0
    for (name, value), colour in zip(seconds.items(), (*COLOURS[:6], GREY), strict=False):
        axes.barh(0, value / total * 100, 0.6, left=left, color=colour, label=name)
        left += value / total * 100
    axes.set(xlabel="% of the time", xlim=(0, 100), yticks=[])
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4)
    return figure
