"""The tables of a comparison of detectors."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from pse_jax.evaluation.comparison import LEVEL, METRICS, Comparison, Interval
from pse_jax.report.tables import Table, number

# What people call them, and how many times larger they are shown.
SHOWN = {
    "AP": ("AP (%)", 100),
    "AP50": ("AP50 (%)", 100),
    "AP75": ("AP75 (%)", 100),
    "oracle_gap": ("AP left in ranking (%)", 100),
    "PCC": ("PCC, score and IoU", 1),
    "rho_cls": ("rho_cls, mean over classes", 1),
    "inversion_rate": ("inversion rate", 1),
    "LaECE": ("LaECE0", 1),
    "f1": ("best F1, one threshold", 1),
}
LOWER = ("oracle_gap", "inversion_rate", "LaECE")  # is better
MARK = "*"
FEW_IMAGES = 10  # with an object of a class: too few to draw from


def render(comparison: Comparison) -> str:
    """The comparison for a terminal: of the classes those that differ most."""
    texts = [str(table) for name, table in tables(comparison).items() if name != "classes"]
    texts += [str(_classes(comparison, i, 12)) for i in range(1, len(comparison.labels))]
    return "\n\n".join([*texts, textwrap.fill(note(comparison), 100)]) + "\n"


def note(comparison: Comparison) -> str:
    """What the intervals are."""
    if not comparison.resamples:
        return "No intervals: --resamples 0."
    few = ""
    if comparison.images < 30:
        few = f" With {comparison.images} images they are rough at best."
    return (
        f"Intervals ({LEVEL * 100:g} %): bootstrap over the {comparison.images:,} images, "
        f"{comparison.resamples:,} resamples, seed {comparison.seed}; the same draws for all, so "
        f"differences are paired. {MARK} marks those whose interval leaves out 0. They do not tell "
        f"what training again would give.{few}"
    )


def tables(comparison: Comparison) -> dict[str, Table]:
    """Values side by side, the differences of each detector to the first, and the classes."""
    labels = comparison.labels
    found = {"metrics": _metrics(comparison)}
    for i in range(1, len(labels)):
        found[f"difference_{i}"] = _differences(comparison, i)
    for i in range(1, len(labels)):
        key = "classes" if len(labels) == 2 else f"classes_{i}"
        found[key] = _classes(comparison, i)
    return found


def _metrics(comparison: Comparison) -> Table:
    """All values; for programs one row a metric and detector, with the intervals."""
    detectors = range(len(comparison.labels))
    rows = [
        [
            SHOWN[name][0] + (" (lower is better)" if name in LOWER else ""),
            *(_value(name, comparison.metric(name, i).value) for i in detectors),
        ]
        for name in METRICS
    ]
    data: list[Sequence[Any]] = [["metric", "detector", *_COLUMNS]]
    for name in METRICS:
        for i in detectors:
            own = comparison.metric(name, i)
            difference = comparison.metric(name, i, 0) if i else None
            data.append([name, comparison.labels[i], *_limits(own), *_limits(difference)])
    return Table("Side by side", ["metric", *comparison.labels], rows, data=data)


def _differences(comparison: Comparison, i: int) -> Table:
    """The differences of one detector to the first."""
    rows = []
    for name in METRICS:
        change = comparison.metric(name, i, 0)
        rows.append([SHOWN[name][0], *_change(name, change)])
    title = f"{comparison.labels[i]} less {comparison.labels[0]}"
    return Table(title, ["metric", "difference", "95 % interval"], rows)


def _classes(comparison: Comparison, i: int, most: int | None = None) -> Table:
    """The AP of each class, or of those that differ most."""
    first, label = comparison.labels[0], comparison.labels[i]
    gaps = comparison.classes[i] - comparison.classes[0]
    order = np.arange(len(gaps))
    if most is not None:
        order = np.argsort(-np.abs(np.nan_to_num(gaps)), kind="stable")[:most]
    rows = []
    for k in order.tolist():
        pair = [comparison.of_class(k, j) for j in (0, i)]
        few = "†" if comparison.object_images[k] < FEW_IMAGES else ""
        cells = [_value("AP", one.value) for one in pair]
        objects = number(int(comparison.objects[k])) + few
        change = _change("AP", comparison.of_class(k, i, 0))
        rows.append([comparison.names[k], objects, *cells, *change])
    data: list[Sequence[Any]] = [["class", "objects", "images", "detector", *_COLUMNS]]
    for k, name in enumerate(comparison.names):
        counts = [int(comparison.objects[k]), int(comparison.object_images[k])]
        for j in (0, i):
            difference = comparison.of_class(k, j, 0) if j else None
            own = comparison.of_class(k, j)
            data.append([name, *counts, comparison.labels[j], *_limits(own), *_limits(difference)])
    header = ["class", "objects", first, label, "difference", "95 % interval"]
    part = f", the {len(order)} that differ most" if len(order) < len(gaps) else ""
    words = f"Of {len(gaps)} classes about {len(gaps) * (1 - LEVEL):.0f} would be marked by chance."
    words = words if comparison.resamples and len(gaps) >= 20 else ""
    if any("†" in row[1] for row in rows):
        words += f" † in fewer than {FEW_IMAGES} images: the interval says little."
    return Table(f"AP of the classes (%){part}: {label} and {first}", header, rows, words, data)


_COLUMNS = ("value", "low", "high", "difference", "difference low", "difference high")


def _limits(interval: Interval | None) -> list[float | None]:
    if interval is None:
        return [None, None, None]
    return [interval.value, interval.low, interval.high]


def _value(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    factor = SHOWN[name][1]
    return f"{value * factor:.1f}" if factor == 100 else f"{value:.3f}"


def _change(name: str, interval: Interval) -> list[str]:
    """`+1.9*` and `[+0.8, +3.0]`."""
    if np.isnan(interval.value):
        return ["-", "-"]
    form = "{:+.1f}" if SHOWN[name][1] == 100 else "{:+.3f}"
    value, low, high = (
        form.format(v * SHOWN[name][1]) for v in (interval.value, interval.low, interval.high)
    )
    limits = "-" if np.isnan(interval.low) else f"[{low}, {high}]"
    return [value + MARK * interval.differs, limits]
