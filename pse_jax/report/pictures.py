"""Pictures of boxes, made with `drawing.draw_boxes`: sheets, cut-outs, pairs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw

from pse_jax.categories import Categories
from pse_jax.data.folder import leads_out
from pse_jax.data.transforms import pixels_of
from pse_jax.detections import Detections
from pse_jax.drawing import DARK, NEUTRAL, PALETTE, WHITE, draw_boxes, font
from pse_jax.errors import ResultsError
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.files import is_regular

BETTER, WORSE, TRUTH = PALETTE[0], PALETTE[1], WHITE  # of a pair of boxes on one object
PAPER = "#eef0f3"  # around an image
EXAMPLE = (520, 390)  # px, width and height of an example in report.html
# Px of the longer side of a picture on a sheet: 20 cells of blood, each with its label, need 890.
CELL, SMALLEST_CELL, LARGEST_CELL = 200, 400, 1280
MARGIN = 0.18  # of the longer side of what an example shows, on each side


def beside_truth(
    image: Image.Image,
    found: Detections,
    truth_xyxy: Float[np.ndarray, "n 4"] | None,
    truth_labels: Int[np.ndarray, " n"] | None,
    categories: Categories,
    *,
    title: str = "",
    size: int = 0,
) -> Image.Image:
    """Detections and, dashed and to their left, the ground truth; each with a line of text above.

    Args:
        image: upright, RGB.
        found: all that is to be drawn.
        truth_xyxy: px of the image; None: there is no ground truth, and one picture is all.
        truth_labels: their numbers in the category table.
        categories: the table.
        title: the first words of the text, such as the image's name.
        size: px of the longer side of each of both pictures; by default as large as the number of
            objects asks for, `cell_size`.
    """
    objects = max(len(found), 0 if truth_xyxy is None else len(truth_xyxy))
    factor = (size or cell_size(objects)) / max(image.size)
    wh = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    image = image.resize(wh, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    title = f"{title}: " if title else ""
    right = draw_boxes(image, found.boxes_xyxy * factor, found.labels, found.groups)
    if truth_xyxy is None or truth_labels is None:
        return captioned(right, f"{title}{len(found)} found")
    names = [categories.names[label] for label in truth_labels.tolist()]
    left = draw_boxes(image, truth_xyxy * factor, names, truth_labels.tolist(), dashed=True)
    left = captioned(left, f"{title}{len(truth_xyxy)} objects, as annotated")
    right = captioned(right, f"{len(found)} found")
    both = Image.new("RGB", (left.width + 4 + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 4, 0))
    return both


def cell_size(objects: int) -> int:
    """Px of the longer side of a picture on a sheet, on which so many objects can be told apart."""
    return int(min(max(CELL * np.sqrt(objects), SMALLEST_CELL), LARGEST_CELL))


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """The picture below a line of text, which is cut to its width."""
    letters = font(13)
    while text and letters.getlength(text) > picture.width - 4:
        text = text[: -2 - text.endswith("…")].rstrip() + "…" if len(text) > 2 else ""
    height = sum(letters.getmetrics()) + 4
    whole = Image.new("RGB", (picture.width, picture.height + height), "white")
    ImageDraw.Draw(whole).text((2, 2), text, fill=DARK, font=letters)
    whole.paste(picture, (0, height))
    return whole


def sheet(
    pictures: Sequence[Image.Image], columns: int = 0, gap: int = 10, width: int = 2400
) -> Image.Image:
    """Pictures of any sizes side by side, in rows that are `width` px wide or `columns` long.

    A picture that is wider than that has a row of its own.
    """
    rows: list[list[Image.Image]] = []
    left = 0
    for picture in pictures:
        full = len(rows[-1]) == columns if columns and rows else left + picture.width > width - gap
        if full or not rows:
            rows.append([])
            left = gap
        rows[-1].append(picture)
        left += picture.width + gap
    heights = [max(picture.height for picture in row) + gap for row in rows]
    widths = [sum(picture.width + gap for picture in row) for row in rows]
    whole = Image.new("RGB", (max(widths) + gap, sum(heights) + gap), "white")
    y = gap
    for row, height in zip(rows, heights, strict=True):
        x = gap
        for picture in row:
            whole.paste(picture, (x, y + (height - gap - picture.height) // 2))
            x += picture.width + gap
        y += height
    return whole


def crop(
    image: Image.Image, boxes_xyxy: Float[np.ndarray, "n 4"], size: tuple[int, int]
) -> tuple[Image.Image, Float[np.ndarray, "n 4"]]:
    """The part of an image around some boxes, resized to (width, height), and the boxes in it."""
    left, top, right, bottom = map(
        round, window(boxes_xyxy, (image.height, image.width), size[0] / size[1])
    )
    part = Image.new("RGB", (right - left, bottom - top), PAPER)
    part.paste(image, (-left, -top))
    moved = boxes_xyxy - np.array([left, top, left, top])
    factor = np.tile(np.array(size) / part.size, 2)
    return part.resize(size, Image.Resampling.LANCZOS), moved * factor


def window(
    boxes_xyxy: Float[np.ndarray, "n 4"], hw: tuple[int, int], aspect: float = 1.0
) -> tuple[float, float, float, float]:
    """The xyxy of the part around all boxes, `aspect` times as wide as high, with some margin.

    It lies inside the image of that height and width where that is possible.
    """
    low, high = boxes_xyxy[:, :2].min(axis=0), boxes_xyxy[:, 2:].max(axis=0)
    shape = np.array([aspect, 1.0])
    image = np.array([hw[1], hw[0]])
    height = ((high - low) / shape).max() * (1 + 2 * MARGIN)
    wh = min(height, (image / shape).max()) * shape
    room = image - wh
    corner = (low + high - wh) / 2
    corner = np.where(room > 0, np.clip(corner, 0, np.maximum(room, 0)), room / 2)
    return (*corner.tolist(), *(corner + wh).tolist())


def draw_pair(
    image: Image.Image, boxes_xyxy: Float[np.ndarray, "3 4"], size: tuple[int, int], **more: Any
) -> Image.Image:
    """An object, the better-scored box on it and the better-placed one; `more` to `draw_boxes`."""
    picture, boxes = crop(image, boxes_xyxy, size)
    dashed = (True, False, False)  # the object on top: the others often hide it
    return draw_boxes(picture, boxes, groups=(NEUTRAL, 1, 0), dashed=dashed, **more)


def draw_example(folder: Path, example: Mapping[str, Any], exif: str) -> bytes:
    """A worst-ranked pair and its object, as a JPEG file; `exif` as in `transforms.upright`."""
    better, worse = example["better_box"], example["better_score"]
    boxes = np.array([example["object_xyxy"], worse["box_xyxy"], better["box_xyxy"]])
    labels = [f"IoU {side['iou']:.2f}, score {side['score']:.2f}" for side in (worse, better)]
    image = Image.fromarray(pixels_of(folder / example["file_name"], exif))
    picture = draw_pair(image, boxes, EXAMPLE, labels=["", *labels], scale=1.4)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def check_images(
    folder: Path, ground_truth: GroundTruth, detections: Results, outside: bool = False
) -> None:
    """Raises `ResultsError` unless every image with a detection is in the folder.

    With `outside`, file names may also lead out of it.
    """
    if not folder.is_dir():
        raise ResultsError(f"--images {folder}: no such folder")
    used = sorted(set(detections.image.tolist()))
    out = [i for i in used if not outside and leads_out(ground_truth.image_names[i])]
    if out:
        raise ResultsError(
            f"{ground_truth.source}: {len(out)} file names lead out of --images {folder}, the "
            f"first is {ground_truth.image_names[out[0]]!r} (image_id "
            f"{ground_truth.image_ids[out[0]]}); correct them, or allow it with --outside-images"
        )
    missing = [i for i in used if not is_regular(folder / ground_truth.image_names[i])]
    if missing:
        name = ground_truth.image_names[missing[0]]
        raise ResultsError(
            f"--images {folder}: {len(missing)} of {len(used)} images are missing, the first is "
            f"{name!r} (image_id {ground_truth.image_ids[missing[0]]}); give the folder that "
            f"file_name in {ground_truth.source} starts from, or leave --images out"
        )
