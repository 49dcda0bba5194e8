"""report.html: what the numbers of a detector's results file mean, on one page."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from pse_jax.evaluation.measure import Examined, image_ranks
from pse_jax.files import write_whole
from pse_jax.report import pictures, plots, style, tables

PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pse_jax", "report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)
PAGES.filters |= {"number": tables.number, "percent": tables.percent}


def write_report(
    path: Path,
    examined: Examined,
    summary: dict[str, Any],
    images: Path | None,
    exif: str = "apply",
) -> None:
    """Writes the page; without `images`, the images' folder, its examples are sentences only."""
    found, keep = examined.detections, examined.counted
    correct, objects = examined.matches.correct[keep], int(examined.objects.sum())
    rho = image_ranks(examined)
    figures = {
        "oracles": plots.ladder(summary["oracles"]),
        "ranking": plots.image_ranks(rho[rho == rho]),
        "correlation": plots.scatter(found.scores, examined.ious),
        "errors": plots.errors(summary["errors"]),
        "threshold": plots.f1(found.scores[keep], correct, objects),
    }
    if summary["calibration"]:
        figures["calibration"] = plots.reliability(summary["calibration"]["bins"])
    drawn = [pictures.draw_example(images, e, exif) for e in summary["examples"]] if images else []
    page = PAGES.get_template("page.html").render(
        summary=summary,
        counts=tables.count_line(summary["counts"]),
        tables=tables.tables(summary),
        figures={k: _inline(style.svg(figure), "svg+xml") for k, figure in figures.items()},
        drawn=[_inline(picture, "jpeg") for picture in drawn],
        pictures=pictures,
    )
    write_whole(path, page, "the report")


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
