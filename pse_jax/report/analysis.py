"""The folder that `analyze` writes: numbers, page, tables and plots, of one detector or several."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.evaluation.comparison import Comparison
from pse_jax.evaluation.curves import precision_recall
from pse_jax.evaluation.measure import Examined
from pse_jax.files import make_folder, write_whole
from pse_jax.report import page, plots_compare, style, table_files, tables, tables_compare
from pse_jax.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which files there are to be besides the numbers and the page."""

    tables: Sequence[str] = ("csv",)  # of table_files.KINDS
    plots: Sequence[str] = ()  # of style.FORMATS
    images: Path | None = None  # folder of the images, to draw examples
    exif: str = "apply"  # as in `transforms.upright`


def write_analysis(
    folder: Path, examined: Examined, summary: dict[str, Any], wanted: Wanted
) -> None:
    """Writes analysis.json, report.html, tables/ and plots/ of one detector.

    Raises:
        WriteError: if the folder cannot be written.
    """
    _write_numbers(folder, "analysis", summary)
    figures = page.figures_of(examined, summary)
    page.write_report(folder / "report.html", summary, figures, wanted.images, wanted.exif)
    found = tables.tables(summary)
    found["precision_recall"] = _curves(examined)
    _write_parts(folder, found, figures, wanted)


def write_comparison(
    folder: Path, examined: Sequence[Examined], comparison: Comparison, wanted: Wanted
) -> None:
    """Writes comparison.json, report.html, tables/ and plots/ of several detectors.

    Raises:
        WriteError: if the folder cannot be written.
    """
    _write_numbers(folder, "comparison", comparison.content())
    curves = [
        precision_recall(one.ground_truth, one.detections, pairs=one.pairs) for one in examined
    ]
    figures = {"mean_curves": plots_compare.mean_curves(curves, comparison.labels)}
    for i in range(1, len(examined)):
        figures[f"differences_{i}"] = plots_compare.differences(comparison, i)
    counts = [tables.count_line(one.counts) for one in examined]
    page.write_comparison(folder / "report.html", comparison, counts, figures)
    _write_parts(folder, tables_compare.tables(comparison), figures, wanted)


def _write_numbers(folder: Path, name: str, content: dict[str, Any]) -> None:
    make_folder(folder, f"the folder of the {name}")
    text = json.dumps(nan_to_none(content), indent=1, allow_nan=False)
    write_whole(folder / f"{name}.json", text + "\n", f"the {name}")


def _write_parts(
    folder: Path, found: Mapping[str, Table | str], figures: Mapping[str, Figure], wanted: Wanted
) -> None:
    if wanted.tables:
        table_files.write_tables(folder / "tables", found, wanted.tables)
    if wanted.plots:
        make_folder(folder / "plots", "the folder of the plots")
    for name, figure in figures.items():
        for kind in wanted.plots:
            style.write(figure, folder / "plots" / f"{name}.{kind}")


def _curves(examined: Examined) -> Table:
    """The precision-recall curves, one row a recall level."""
    curves = precision_recall(examined.ground_truth, examined.detections, pairs=examined.pairs)
    rows = [
        [float(level), float(mean), *precision.tolist()]
        for level, mean, precision in zip(
            curves.recall, curves.mean, curves.precision.T, strict=True
        )
    ]
    header = ["recall", "mean", *curves.names]
    cells = [[f"{row[0]:.2f}", *map(tables.number, row[1:])] for row in rows]
    title = f"Precision at IoU {curves.iou:g}"
    return Table(title, header, cells, data=[header, *rows])
