"""Draws Fig. 2(b): the object, the box that was kept and the better one that was not."""

import json
import logging
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from pse_jax.data.dataset import Dataset
from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.experiments.figures import lost
from pse_jax.experiments.figures.lost import Lost
from pse_jax.files import write_whole
from pse_jax.report import style
from pse_jax.report.pictures import BETTER, WORSE, draw_pair

logger = logging.getLogger(__name__)

COLUMNS = 4
PANEL = (600, 600)  # px, for print
BETTER_INK, WORSE_INK = "#0a6496", "#a86400"  # darker, to be read on white


@style.styled()
def draw_examples(examples: list[Lost], dataset: Dataset) -> Figure:
    """One panel per example, cropped to the boxes."""
    rows, columns = -(-len(examples) // COLUMNS), min(COLUMNS, len(examples))
    figure = Figure(figsize=(1.85 * columns, 2.3 * rows + 0.35), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(examples) :]:
        axes.set_axis_off()
    for axes, example in zip(grid, examples, strict=False):
        i = example.index
        image = Image.fromarray(dataset.pixels_of(i))
        boxes = np.stack([example.object_xyxy, example.box_kept, example.box_lost])
        axes.imshow(np.asarray(draw_pair(image, boxes, PANEL, scale=2.5)))
        axes.set(xticks=(), yticks=())
        axes.spines[:].set_visible(False)
        name = dataset.categories.names[example.label]
        axes.set_title(f"{name}, image {dataset.image_ids[i]}", fontsize=8.0, pad=3)
        lines = (
            (WORSE_INK, f"score {example.score_kept:.2f}, IoU {example.iou_kept:.2f}"),
            (BETTER_INK, f"score {example.score_lost:.2f}, IoU {example.iou_lost:.2f}"),
        )
        for row, (colour, text) in enumerate(lines):
            place = {"ha": "center", "va": "top", "transform": axes.transAxes}
            axes.text(0.5, -0.03 - 0.1 * row, text, color=colour, fontsize=8.5, **place)
    handles = [
        Line2D([], [], color=WORSE, lw=2.5, label="kept: higher score"),
        Line2D([], [], color=BETTER, lw=2.5, label="removed: higher IoU"),
        Line2D([], [], color=style.INK, lw=1.6, ls=(0, (3, 2)), label="ground truth"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def save_examples(
    boxes: list[Lost], dataset: Dataset, out: Path, name: str, count: int, min_score: float
) -> list[Path]:
    """Prints what NMS lost and writes it to OUT/NAME.json, the worst examples to .png and .pdf."""
    numbers = lost.summary(boxes, min_score)
    print(
        f"of {numbers['objects']} objects found with a score of {min_score:g} or more, "
        f"{numbers['better_box_lost']:.0%} had a better-placed box that NMS removed "
        f"({numbers['better_by_0.1']:.0%} by more than 0.1 of IoU); mean IoU "
        f"{numbers['mean_iou_kept']:.3f}, with the best box {numbers['mean_iou_best']:.3f}; "
        f"{numbers['mean_removed']:.1f} boxes of each were removed"
    )
    chosen = lost.worst(boxes, count, min_score)
    if not chosen:
        logger.warning("%s: no example with a kept score over %g", name, min_score)
        return []
    files = style.save(draw_examples(chosen, dataset), out, name)
    file = out / f"{name}.json"
    write_whole(file, json.dumps(nan_to_none(numbers), indent=2) + "\n", "the numbers of NMS")
    return [*files, file]
