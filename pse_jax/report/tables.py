"""The report's tables as text cells, and their form on a terminal."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pse_jax.evaluation.coco import METRICS
from pse_jax.evaluation.correlation import COEFFICIENTS
from pse_jax.evaluation.tide import ERRORS

# Headings of the columns that are not called as their key is.
HEADINGS = {"detections": "dets", "inversion_rate": "inverted", "threshold": "thresh.", "f1": "F1"}
CLASS_COLUMNS = ("objects", "detections", "AP", *COEFFICIENTS, "rho_cls", "inversion_rate",
                 "LaECE", "threshold", "f1")  # fmt: skip
RANKING = {
    "rho_img": "rho_img, mean over images",
    "rho_cls": "rho_cls, mean over classes",
    "inversion_rate": "inversion rate, all pairs",
    "inversion_rate_class_mean": "inversion rate, mean over classes",
}
CALIBRATION = {"LaECE": "LaECE (25 bins)", "LaACE": "LaACE (one bin per detection)"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text as long as the header; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        """Columns below the title, the first aligned to the left and the others to the right."""
        head, *lines = align([self.header, *self.rows], [False] + [True] * (len(self.header) - 1))
        lines = [head, ["-" * len(cell) for cell in head], *lines]
        return "\n".join([self.title, "", *("  ".join(line).rstrip() for line in lines)])


def align(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[list[str]]:
    """The same cells, each as wide as its column; `right` says which columns are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fit = [str.rjust if flush else str.ljust for flush in right]
    return [[f(cell, w) for f, cell, w in zip(fit, row, widths, strict=True)] for row in rows]


def number(value: float) -> str:
    """1,234 or 0.123; a dash for NaN."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}"


def percent(value: float) -> str:
    """A share or an AP in [0, 1] as people quote it: 0.354 is 35.4."""
    return "-" if math.isnan(value) else f"{value * 100:.1f}"


def render(summary: dict[str, Any]) -> str:
    """The whole report for a terminal, within 110 columns."""
    texts = [count_line(summary["counts"]), *map(str, tables(summary).values())]
    return "\n\n".join(texts) + "\n"


def count_line(counts: dict[str, int]) -> str:
    """What was analysed, in one line."""
    return (
        f"{counts['detections']:,} detections on {counts['images']:,} images, "
        f"{counts['objects']:,} objects and {counts['crowds']:,} crowd regions "
        f"of {counts['classes']:,} classes"
    )


def tables(summary: dict[str, Any]) -> dict[str, Table | str]:
    """Every table by its name; where scores are not probabilities, a note in place of calibration."""
    oracles, errors, best = summary["oracles"], summary["errors"], summary["threshold"]
    gains = {k: f"{(row['AP'] - oracles['plain']['AP']) * 100:+.1f}" for k, row in oracles.items()}
    coco = [[name, percent(summary["coco"][name])] for name in METRICS]
    overall, mean = best["overall"], best["class_mean_f1"]
    kinds = {
        "count": errors["counts"],
        "above thresh.": errors["counts_at_best_threshold"],
        "AP50 if fixed": errors["delta_ap50"],
    }
    result = {
        "oracles": _table(
            "Oracle ladder: the AP (%) left in ranking alone",
            "scores",
            (*METRICS[:3], "gain"),
            {
                "as they are": oracles["plain"],
                "in the order of IoU": oracles["transported"] | {"gain": gains["transported"]},
                "IoU itself": oracles["iou"] | {"gain": gains["iou"]},
            },
        ),
        "coco": Table(
            "COCO metrics (%)",
            ["", "all", "", "by size", "", "recall", "", "by size"],
            [sum(coco[row::3], []) for row in range(3)],
        ),
        "correlation": _table(
            "Correlation of score and IoU",
            "detections",
            ("count", *COEFFICIENTS),
            summary["correlation"],
        ),
        "ranking": _values("Ranking within images and classes", RANKING, summary["ranking"]),
        "calibration": f"Calibration {summary['calibration_note']}",
        "errors": _table(
            "Errors, TIDE's kinds (above thresh.: each class's best)",
            "kind",
            tuple(kinds),
            {
                kind: {column: row[kind] for column, row in kinds.items() if kind in row}
                for kind in ("correct", *ERRORS, "ignored")
            },
        ),
        "classes": _table(
            "Classes", "class", CLASS_COLUMNS, {row["name"]: row for row in summary["classes"]}
        ),
        "threshold": _table(
            "Best score threshold by F1 at IoU 0.5",
            "threshold",
            ("score", "f1", "precision", "recall"),
            {
                "one for all classes": overall | {"score": overall["threshold"]},
                "one per class (mean)": {"f1": mean},
            },
        ),
    }
    return result


def evaluation(numbers: dict[str, Any]) -> str:
    """The numbers of an evaluation for a terminal; AP and AR in percent."""

    def share(value: float | None) -> str:
        return "  -  " if value is None or math.isnan(value) else f"{100 * value:5.1f}"

    def row(names: tuple[str, ...]) -> str:
        return "  " + "   ".join(f"{name:>5} {share(numbers[name])}" for name in names)

    def plain(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    gap = None if numbers["oracle_AP"] is None else numbers["oracle_AP"] - (numbers["AP"] or 0)
    correlation = "   ".join(f"{name} {plain(numbers[name])}" for name in COEFFICIENTS)
    per_class = numbers["per_class"]
    width = max(map(len, per_class), default=0)
    cells = [f"{name:<{width}} {share(value)}" for name, value in per_class.items()]
    columns = max(1, 96 // (width + 9))
    lines = [
        row(METRICS[:6]),
        row(METRICS[6:]),
        f"  score-IoU over {numbers['detections']} detections:   {correlation}",
        f"  ranking oracle (scores in the order of true IoU): AP {share(numbers['oracle_AP'])}"
        f"   (+{share(gap).strip()})",
        *("  " + "   ".join(cells[i : i + columns]) for i in range(0, len(cells), columns)),
    ]
    return "\n".join(lines)
