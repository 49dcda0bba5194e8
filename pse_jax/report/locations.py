"""Pictures of a data set: boxes, and the locations that training makes answer for them."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pse_jax.config import Config
from pse_jax.data import transforms
from pse_jax.drawing import DARK, colour_of, draw_boxes
from pse_jax.files import make_folder, write_whole
from pse_jax.points import STRIDES
from pse_jax.report.assigned import Assigner
from pse_jax.report.checked import Checked
from pse_jax.report.pictures import sheet

SAMPLES, COLUMNS = 12, 4
SIZE = 640  # px of a picture's longer side


def write_sheets(
    name: str, checked: Checked, config: Config, out: Path, seed: int
) -> Iterator[tuple[Path, str]]:
    """Writes OUT/NAME_samples.png and, where objects have no location, OUT/NAME_no_location.png.

    Yields each file and what it shows.
    """
    if checked.buckets is None:
        return
    owner = np.repeat(np.arange(len(checked.dataset)), np.diff(checked.dataset.offsets))
    order = np.random.default_rng(seed).permutation(np.unique(owner))
    usable = order[[int(i) not in checked.unusable for i in order]]
    without = usable[np.isin(usable, owner[checked.lost])]
    make_folder(out, "the folder of the pictures")
    dots = "dots are the locations that answer for a box, larger on higher levels"
    for kind, chosen, what in (
        ("samples", usable, f"images at random; {dots}"),
        ("no_location", without, "images with objects for which no location answers, dashed"),
    ):
        if len(chosen):
            file, stream = out / f"{name}_{kind}.png", io.BytesIO()
            drawn = [_picture(checked, config, int(i)) for i in chosen[:SAMPLES]]
            sheet(drawn, COLUMNS).save(stream, "PNG")
            write_whole(file, stream.getvalue(), "pictures of the data")
            yield file, f"{len(drawn)} {what}"


def _picture(checked: Checked, config: Config, i: int) -> Image.Image:
    """An image with its boxes, in the colours of their classes, and their locations as dots."""
    dataset, (buckets, row) = checked.dataset, checked.resized(i)
    boxes, labels = dataset.boxes_of(i)
    original, hw = (
        tuple(s[k].tolist()) for s, k in ((dataset.sizes_hw, i), (buckets.resized_hw, row))
    )
    canvas = buckets.shapes_hw[buckets.bucket[row]]
    found = Assigner(canvas, config)(transforms.scale_boxes(boxes, original, hw))
    height, width = original
    factor = SIZE / max(original)
    image = Image.fromarray(dataset.pixels_of(i))
    wh = (max(round(width * factor), 1), max(round(height * factor), 1))
    groups = labels.tolist()
    lost = checked.lost[dataset.offsets[i] : dataset.offsets[i + 1]]
    picture = draw_boxes(
        image.resize(wh, Image.Resampling.BICUBIC),
        boxes * factor,
        [dataset.categories.names[label] for label in groups],
        groups,
        dashed=lost.tolist(),
        scale=1.1,
    )
    pen = ImageDraw.Draw(picture)
    scale = np.array(wh) / (hw[1], hw[0])
    for (x, y), level, box in zip(found.points_xy * scale, found.levels, found.boxes, strict=True):
        radius = float(np.clip(0.16 * STRIDES[level] * scale[0], 1.2, 7))
        corners = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(corners, fill=colour_of(groups[box]), outline=DARK if radius > 2.5 else None)
    return picture
