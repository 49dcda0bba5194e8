"""report.html: what the numbers of a detector's results file mean, on one page."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from pse_jax.evaluation.comparison import Comparison
from pse_jax.evaluation.confusion import confusion_matrix
from pse_jax.evaluation.curves import precision_recall
from pse_jax.evaluation.measure import Examined, image_ranks
from pse_jax.files import write_whole
from pse_jax.report import pictures, plots, plots_classes, style, tables, tables_compare

# What the worst errors of each kind are, for the page.
KINDS = {
    "localisation": "Right class, IoU 0.1 to 0.5",
    "class": "Another class, IoU over 0.5",
    "duplicate": "A second box on an object",
    "background": "IoU under 0.1 with everything",
    "both": "Another class, IoU 0.1 to 0.5",
    "missed": "Objects found by nothing, the largest",
}

PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pse_jax", "report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)
PAGES.filters |= {"number": tables.number, "percent": tables.percent}


def figures_of(examined: Examined, summary: dict[str, Any]) -> dict[str, Figure]:
    """Every figure of the page by its name."""
    truth, found, keep = examined.ground_truth, examined.detections, examined.counted
    correct, objects = examined.matches.correct[keep], int(examined.objects.sum())
    rho = image_ranks(examined)
    limits = np.array([row["threshold"] for row in summary["classes"]])
    matrix = confusion_matrix(truth, found, threshold=limits, pairs=examined.pairs)
    figures = {
        "oracles": plots.ladder(summary["oracles"]),
        "ranking": plots.image_ranks(rho[rho == rho]),
        "correlation": plots.scatter(found.scores, examined.ious),
        "errors": plots.errors(summary["errors"]),
        "threshold": plots.f1(found.scores[keep], correct, objects),
        "precision_recall": plots_classes.precision_recall(
            precision_recall(truth, found, pairs=examined.pairs)
        ),
        "confusion": plots_classes.confusion(matrix),
    }
    if summary["calibration"]:
        figures["calibration"] = plots.reliability(summary["calibration"]["bins"])
    return figures


def write_report(
    path: Path,
    summary: dict[str, Any],
    figures: Mapping[str, Figure],
    images: Path | None,
    exif: str = "apply",
) -> None:
    """Writes the page; without `images`, the images' folder, its examples are sentences only."""

    def drawn(draw: Callable[..., bytes], entries: Sequence[Any]) -> list[str]:
        return [_inline(draw(images, e, exif), "jpeg") for e in entries] if images else []

    page = PAGES.get_template("page.html").render(
        summary=summary,
        counts=tables.count_line(summary["counts"]),
        tables=tables.tables(summary),
        figures={k: _inline(style.svg(figure), "svg+xml") for k, figure in figures.items()},
        drawn=drawn(pictures.draw_example, summary["examples"]),
        errors_drawn={
            kind: drawn(pictures.draw_error, entries)
            for kind, entries in summary["worst_errors"].items()
        },
        pictures=pictures,
        kinds=KINDS,
    )
    write_whole(path, page, "the report")


def write_comparison(
    path: Path, comparison: Comparison, counts: Sequence[str], figures: Mapping[str, Figure]
) -> None:
    """Writes the page of several detectors, with links to the folders of their labels."""
    first, *others = comparison.labels
    page = PAGES.get_template("compare.html").render(
        labels=comparison.labels,
        sections=[(f"less_{i}", f"{other} less {first}") for i, other in enumerate(others, 1)],
        counts=counts,
        note=tables_compare.note(comparison),
        tables=tables_compare.tables(comparison),
        figures={k: _inline(style.svg(figure), "svg+xml") for k, figure in figures.items()},
    )
    write_whole(path, page, "the report")


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
