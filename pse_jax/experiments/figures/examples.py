"""Draws Fig. 2(b): the object, the box that was kept and the better one that was not."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from pse_jax.data.dataset import Dataset
from pse_jax.data.transforms import decode
from pse_jax.experiments.figures.lost import Lost
from pse_jax.report import style
from pse_jax.report.pictures import BETTER, TRUTH, WORSE, crop, draw_boxes

COLUMNS = 4
PANEL = (600, 600)  # px, for print
BETTER_INK, WORSE_INK = "#0a6496", "#a86400"  # darker, to be read on white


@style.styled()
def draw_examples(examples: list[Lost], dataset: Dataset) -> Figure:
    """One panel per example, cropped to the boxes."""
    rows = max(-(-len(examples) // COLUMNS), 1)
    columns = min(COLUMNS, max(len(examples), 1))
    figure = Figure(figsize=(1.85 * columns, 2.3 * rows + 0.35), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(examples) :]:
        axes.set_axis_off()
    for axes, example in zip(grid, examples, strict=False):
        axes.imshow(np.asarray(_panel(example, dataset)))
        axes.set(xticks=(), yticks=())
        axes.spines[:].set_visible(False)
        name = dataset.categories.names[example.label]
        axes.set_title(f"{name}, image {dataset.image_ids[example.index]}", fontsize=8.0, pad=3)
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


def _panel(example: Lost, dataset: Dataset) -> Image.Image:
    i = example.index
    hw = tuple(dataset.sizes_hw[i].tolist())
    image = Image.fromarray(decode(dataset.bytes_of(i), dataset.name_of(i), hw))
    boxes = np.stack([example.object_xyxy, example.box_kept, example.box_lost])
    picture, boxes = crop(image, boxes, PANEL)
    dashed = (True, False, False)  # the object on top: the others often hide it
    return draw_boxes(picture, boxes, (TRUTH, WORSE, BETTER), dashed=dashed, scale=2.5)
