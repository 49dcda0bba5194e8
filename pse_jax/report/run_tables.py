"""The tables of a run's page, as text cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pse_jax.config import Config, differences, leaves
from pse_jax.evaluation.confusion import Confusion
from pse_jax.evaluation.correlation import COEFFICIENTS
from pse_jax.evaluation.judged import Judged
from pse_jax.progress import duration
from pse_jax.report.labels import LabelStatistics
from pse_jax.report.tables import Table, number, percent

NAN = float("nan")
MISTAKES = 10  # pairs of classes that the table of mistakes names
KINDS = {
    "start": "until the first batch is asked for",
    "compile": "compiling programs",
    "data": "waiting for data",
    "step": "computing steps",
    "evaluate": "evaluating, and making this page",
    "save": "writing and waiting for checkpoints",
}


def defined(value: Any) -> float:
    """A number as it is, anything else, as JSON's null, as NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else NAN


def classes(judged: Judged) -> Table:
    """A row a class: counts, AP, and what its own best threshold gives; the last row, one for all.

    Thresholds are of best F1 at IoU 0.5.
    """
    per_class = judged.numbers.get("per_class")
    ap = per_class if isinstance(per_class, Mapping) else {}
    found = np.bincount(judged.found.category, minlength=len(judged.per_class)).tolist()
    rows = [
        [name, number(objects), number(count), percent(defined(ap.get(name))), *_cells(best)]
        for name, objects, count, best in zip(
            judged.truth.categories.unique_names,
            judged.objects.tolist(),
            found,
            judged.per_class,
            strict=True,
        )
    ]
    header = ["class", "objects", "detections", "AP", "threshold", "F1", "precision", "recall"]
    return Table("Classes", header, rows)


def overall(judged: Judged) -> Table:
    """One threshold for all classes beside each class's own."""
    own = [best.f1 for best in judged.per_class if not np.isnan(best.f1)]
    mean = float(np.mean(own)) if own else NAN
    rows = [
        ["one for all classes", *_cells(judged.overall)],
        ["each class its own (mean F1)", "", number(mean), "", ""],
    ]
    return Table(
        "Best threshold by F1 at IoU 0.5",
        ["threshold", "score", "F1", "precision", "recall"],
        rows,
    )


def _cells(best: Any) -> list[str]:
    return [number(v) for v in (best.threshold, best.f1, best.precision, best.recall)]


def correlation(numbers: Mapping[str, Any]) -> Table:
    """Score against IoU, and the AP that the ideal order of the same boxes would give."""
    ap, oracle = defined(numbers.get("AP")), defined(numbers.get("oracle_AP"))
    rows = [[name, number(defined(numbers.get(name)))] for name in COEFFICIENTS]
    rows.append(["AP of the ranking oracle, %", percent(oracle)])
    gain = oracle - ap
    rows.append(["AP left in ranking, %", "-" if np.isnan(gain) else f"{gain * 100:+.1f}"])
    return Table("Score against IoU", ["measure", "value"], rows)


def coco(numbers: Mapping[str, Any]) -> Table:
    """COCO's twelve numbers: a row for all objects, and one for each size."""
    columns = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    rows = [["all", *(percent(defined(numbers.get(key))) for key in columns)]]
    for name in ("small", "medium", "large"):
        initial = name[0].upper()
        ap, ar = (percent(defined(numbers.get(key + initial))) for key in ("AP", "AR"))
        rows.append([name, ap, "", "", "", "", ar])
    return Table("COCO's numbers, %", ["objects", *columns], rows)


def mistakes(confusion: Confusion) -> Table:
    """The classes that are taken for others, the most frequent first."""
    rows = [[true, found, f"{count:,}"] for true, found, count in confusion.mistakes()[:MISTAKES]]
    return Table("Classes taken for others", ["object", "detected as", "times"], rows)


def times(seconds: Mapping[str, float]) -> Table:
    """What each kind of work took."""
    total = sum(seconds.values()) or 1.0
    rows = [
        [
            f"{kind}: {KINDS[kind]}" if kind in KINDS else kind,
            duration(value),
            f"{value / total:.1%}",
        ]
        for kind, value in seconds.items()
    ]
    rows.append(["all", duration(sum(seconds.values())), ""])
    return Table("Times", ["work", "time", "share"], rows)


def evaluations(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Table:
    """Every evaluation of the run, the newest first."""
    names = ("AP", "AP50", "AP75", "AR100", "oracle_AP", *COEFFICIENTS)
    cells = [
        [
            f"{step:,}",
            *(
                (number if name in COEFFICIENTS else percent)(defined(row.get(name)))
                for name in names
            ),
        ]
        for step, row in reversed(rows)
    ]
    header = ["step", *(name.replace("oracle_AP", "oracle AP") for name in names)]
    return Table("Evaluations (AP and AR in %)", header, cells)


def labels(statistics: LabelStatistics) -> Table:
    """A row a class: its objects, the images that show it, and how large it is."""
    total = max(1, int(statistics.objects.sum()))
    rows = [
        [name, f"{objects:,}", f"{objects / total:.1%}", f"{images:,}", _px(side)]
        for name, objects, images, side in zip(
            statistics.names,
            statistics.objects.tolist(),
            statistics.images.tolist(),
            statistics.median_side.tolist(),
            strict=True,
        )
    ]
    header = ["class", "objects", "share", "images", "median size, px"]
    return Table("Objects of each class", header, rows)


def _px(side: float) -> str:
    return "-" if np.isnan(side) else f"{side:.0f}"


def differing(config: Config) -> Table:
    """The fields that are not at their default."""
    rows = [
        [path, shown(value), shown(default)]
        for path, (default, value) in differences(Config(), config).items()
    ]
    return Table("Fields that are not at their default", ["field", "value", "default"], rows)


def fields(config: Config) -> Table:
    """Every field."""
    rows = [[path, shown(value)] for path, _, value in leaves(config)]
    return Table("Every field", ["field", "value"], rows)


def shown(value: Any) -> str:
    """A value of the configuration, in the form that the command line takes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else '""'
