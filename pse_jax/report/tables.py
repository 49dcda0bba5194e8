"""The report's tables as text cells, and their form on a terminal."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pse_jax.evaluation.coco import METRICS
from pse_jax.evaluation.correlation import COEFFICIENTS, FEWEST
from pse_jax.evaluation.tide import ERRORS

# Headings of the columns that are not called as their key is.
HEADINGS = {"detections": "dets", "inversion_rate": "inverted", "LaECE": "LaECE0",
            "threshold": "thresh.", "f1": "F1"}  # fmt: skip
CLASS_COLUMNS = ("objects", "detections", "AP", *COEFFICIENTS, "rho_cls", "inversion_rate",
                 "LaECE", "threshold", "f1")  # fmt: skip
# What a correlation is taken over, which decides whether it says anything.
SIZES = dict.fromkeys(COEFFICIENTS, ("count", "detections")) | {"rho_cls": ("true_positives",)}
MARK = "*"
MISTAKES = 12  # rows of the table of confusions
RANKING = {
    "rho_img": "rho_img, mean over images",
    "rho_cls": "rho_cls, mean over classes",
    "inversion_rate": "inversion rate, all pairs",
    "inversion_rate_class_mean": "inversion rate, mean over classes",
}
CALIBRATION = {"LaECE": "LaECE0 (25 bins)", "LaACE": "LaACE0 (one bin per detection)"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text as long as the header; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""  # below the table
    data: Sequence[Sequence[Any]] = ()  # header and rows for programs, where the cells are not that

    def __str__(self) -> str:
        """Columns below the title, the first aligned to the left and the others to the right."""
        head, *lines = align([self.header, *self.rows], [False] + [True] * (len(self.header) - 1))
        lines = [head, ["-" * len(cell) for cell in head], *lines]
        note = [textwrap.fill(self.note, 100)] if self.note else []
        return "\n".join([self.title, "", *("  ".join(line).rstrip() for line in lines), *note])


def align(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[list[str]]:
    """The same cells, each as wide as its column; `right` says which columns are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fit = [str.rjust if flush else str.ljust for flush in right]
    return [[f(cell, w) for f, cell, w in zip(fit, row, widths, strict=True)] for row in rows]


def number(value: int | float) -> str:
    """1,234 or 0.123; a dash for NaN."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}"


def percent(value: float) -> str:
    """A share or an AP in [0, 1] as people quote it: 0.354 is 35.4."""
    return "-" if math.isnan(value) else f"{value * 100:.1f}"


def render(summary: dict[str, Any]) -> str:
    """The whole report for a terminal, within 110 columns."""
    found = tables(summary)
    del found["worst_images"]  # names of files are long: it is on the page
    texts = [count_line(summary["counts"]), *map(str, found.values())]
    return "\n\n".join(texts) + "\n"


def count_line(counts: dict[str, int]) -> str:
    """What was analysed, in one line."""
    return (
        f"{counts['detections']:,} detections on {counts['images']:,} images, "
        f"{counts['objects']:,} objects and {counts['crowds']:,} crowd regions "
        f"of {counts['classes']:,} classes"
    )


def tables(summary: dict[str, Any]) -> dict[str, Table | str]:
    """Every table by its name; a note instead of calibration's if scores aren't probabilities."""
    best, calibration = summary["threshold"], f"Calibration {summary['calibration_note']}"
    if summary["calibration"]:
        calibration = _values("Calibration of scores as IoU", CALIBRATION, summary["calibration"])
    thresholds = {
        "one for all classes": best["overall"] | {"score": best["overall"]["threshold"]},
        "one per class (mean)": {"f1": best["class_mean_f1"]},
    }
    title = "Best score threshold by F1 at IoU 0.5"
    by_class = {row["name"]: row for row in summary["classes"]}
    groups, columns = summary["correlation"], ("count", *COEFFICIENTS)
    return {
        "oracles": _oracles(summary["oracles"]),
        "coco": _coco(summary["coco"]),
        "correlation": _table("Correlation of score and IoU", "detections", columns, groups),
        "ranking": _values("Ranking within images and classes", RANKING, summary["ranking"]),
        "calibration": calibration,
        "errors": _errors(summary["errors"]),
        "confusion": _confusion(summary["confusion"]),
        "classes": _table("Classes", "class", CLASS_COLUMNS, by_class),
        "worst_images": _worst_images(summary["worst_images"]),
        "threshold": _table(title, "threshold", ("score", "f1", "precision", "recall"), thresholds),
    }


def _table(
    title: str, first: str, keys: Sequence[str], rows: Mapping[str, Mapping[str, Any]]
) -> Table:
    """The values that rows have under some keys: AP in percent, nothing for what a row lacks."""

    def cell(key: str, row: Mapping[str, Any]) -> str:
        value = row.get(key, "")
        if isinstance(value, str):
            return value
        text = percent(value) if key.startswith("AP") else number(value)
        return text + MARK * (text != "-" and _is_few(key, row))

    cells = [[name, *(cell(key, row) for key in keys)] for name, row in rows.items()]
    marked = any(text.endswith(MARK) for line in cells for text in line[1:])
    note = f"{MARK} of fewer than {FEWEST} detections: a correlation that says little" * marked
    header = [first, *(HEADINGS.get(key, key) for key in keys)]
    data = [[first, *keys], *([name, *map(row.get, keys)] for name, row in rows.items())]
    return Table(title, header, cells, note, data)


def _is_few(key: str, row: Mapping[str, Any]) -> bool:
    """Whether it is a correlation of a handful of detections."""
    return any(row.get(size, FEWEST) < FEWEST for size in SIZES.get(key, ()))


def _values(title: str, names: Mapping[str, str], values: Mapping[str, Any]) -> Table:
    rows = {name: {"value": values[key]} for key, name in names.items()}
    return _table(title, "measure", ["value"], rows)


def _oracles(rungs: Mapping[str, Mapping[str, float]]) -> Table:
    rows: dict[str, dict[str, Any]] = {"as they are": {**rungs["plain"]}}
    for key, name in (("transported", "in the order of IoU"), ("iou", "IoU itself")):
        gain = f"{(rungs[key]['AP'] - rungs['plain']['AP']) * 100:+.1f}"
        rows[name] = {**rungs[key], "gain": gain}
    title = "Oracle ladder: the AP (%) left in ranking alone"
    return _table(title, "scores", [*METRICS[:3], "gain"], rows)


def _coco(numbers: Mapping[str, float]) -> Table:
    """Four metrics per row; for programs one."""
    cells = [(name, percent(numbers[name])) for name in METRICS]
    heads = ("precision", "precision by size", "recall", "recall by size")
    header = [text for head in heads for text in (head, "%")]
    rows = [[text for cell in cells[row::3] for text in cell] for row in range(3)]
    data = [["metric", "value"], *([name, numbers[name]] for name in METRICS)]
    return Table("COCO metrics", header, rows, data=data)


def _errors(content: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = {
        "count": content["counts"],
        "above thresh.": content["counts_at_best_threshold"],
        "AP50 if fixed": content["delta_ap50"],
    }
    rows = {
        kind: {column: values[kind] for column, values in columns.items() if kind in values}
        for kind in ("correct", *ERRORS, "ignored")
    }
    return _table(
        "Errors, TIDE's kinds (above thresh.: each class's best)", "kind", [*columns], rows
    )


def _worst_images(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The images with most errors at the best thresholds."""
    columns = ("objects", "correct", "errors", *ERRORS)
    named = {row["file_name"] or f"image {row['image_id']}": row for row in rows}
    return _table("Images with most errors (above thresh.)", "image", columns, named)


def _confusion(content: Mapping[str, Any]) -> Table:
    """The classes that are taken for each other most often; for programs the whole matrix."""
    labels, counts = content["labels"], np.asarray(content["counts"])
    wrong = np.array(counts[:-1, :-1])
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(MISTAKES, np.count_nonzero(wrong))]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        share = wrong[i, j] / counts[i].sum()
        rows.append([f"{labels[i]} as {labels[j]}", number(int(wrong[i, j])), percent(share)])
    missed, stray = int(counts[:, -1].sum()), int(counts[-1].sum())
    note = f"Besides, {missed:,} objects are missed and {stray:,} detections lie on no object."
    data = [["object", *labels[:-1], "missed"]]
    data += [[label, *row] for label, row in zip(labels, counts.tolist(), strict=True)]
    header = ["object, detected as", "count", "% of the class"]
    return Table("Classes taken for each other", header, rows, note, data)


def evaluation(numbers: dict[str, Any]) -> str:
    """The numbers of an evaluation for a terminal; AP and AR in percent, None where undefined."""

    def share(value: float | None) -> str:
        return "  -  " if value is None else f"{100 * value:5.1f}"

    def row(names: Sequence[str]) -> str:
        return "  " + "   ".join(f"{name:>5} {share(numbers[name])}" for name in names)

    gap = None if numbers["oracle_AP"] is None else numbers["oracle_AP"] - (numbers["AP"] or 0)
    values = {k: "-" if numbers[k] is None else f"{numbers[k]:.3f}" for k in COEFFICIENTS}
    correlation = "   ".join(f"{name} {value}" for name, value in values.items())
    if numbers["detections"] < FEWEST:
        correlation += f"   (of fewer than {FEWEST}: they say little)"
    width = max(map(len, numbers["per_class"]), default=0)
    cells = [f"{name:<{width}} {share(value)}" for name, value in numbers["per_class"].items()]
    columns = max(1, 96 // (width + 9))
    lines = [
        row(METRICS[:6]),
        row(METRICS[6:]),
        f"  score-IoU over {numbers['detections']} detections:   {correlation}",
        f"  ranking oracle (scores in the order of true IoU): AP {share(numbers['oracle_AP'])}"
        f"   (+{share(gap).strip()})",
        *("  " + "   ".join(cells[i : i + columns]) for i in range(0, len(cells), columns)),
    ]
    if note := numbers.get("note"):
        lines.append(textwrap.fill(note, 100, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines)
