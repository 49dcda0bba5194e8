"""One look for all figures, and the files that they become."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from pse_jax.files import make_folder, write_whole

# Okabe and Ito's palette, which colour-blind people can tell apart; without its yellow, which does
# not show on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
BLUE, ORANGE = COLOURS[:2]
GREY, INK = "#b8bec6", "#2b2f36"
HEIGHT = "cividis"  # looks the same with every kind of colour vision
# The lowest shows on white.
COUNTS = ListedColormap(matplotlib.colormaps["YlGnBu"](np.linspace(0.36, 1.0, 256)))
SIGNED = "PuOr_r"

STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same on every machine
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "pdf.fonttype": 42,  # text stays text, as publishers require
    "svg.hashsalt": "pse_jax",  # the same ids in every run
}


@contextlib.contextmanager
def styled(grid: bool = False) -> Iterator[None]:
    """Draws what is inside in this style; also a decorator."""
    with matplotlib.rc_context({**STYLE, "axes.grid": grid}):
        yield


@styled()
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes FOLDER/NAME.png and .pdf."""
    make_folder(folder, "the folder of the figures")
    png, pdf = (folder / f"{name}.{kind}" for kind in ("png", "pdf"))
    write_whole(png, _drawn(figure, "png", 200, Software=None), "a figure")
    write_whole(pdf, _drawn(figure, "pdf", 300, CreationDate=None), "a figure")
    return [png, pdf]


FORMATS = ("svg", "pdf", "png")


@styled()
def write(figure: Figure, path: Path) -> None:
    """Writes the figure in the format of the file's suffix, one of `FORMATS`."""
    fixed = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    kind = path.suffix[1:]
    dpi = None if kind == "svg" else 200
    write_whole(path, _drawn(figure, kind, dpi, **fixed[kind]), "a figure")


@styled()
def svg(figure: Figure) -> bytes:
    """The figure as an SVG file."""
    return _drawn(figure, "svg", None, Date=None)


def _drawn(figure: Figure, kind: str, dpi: int | None, **metadata: None) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=dpi or "figure", metadata=metadata)
    return stream.getvalue()
