"""Pictures of boxes, made with `drawing.draw_boxes`: sheets, cut-outs, pairs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from pse_jax.categories import Categories
from pse_jax.data.folder import leads_out
from pse_jax.data.transforms import pixels_of
from pse_jax.drawing import NEUTRAL, PALETTE, WHITE, draw_boxes
from pse_jax.errors import ResultsError
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.files import is_regular

BETTER, WORSE, TRUTH = PALETTE[0], PALETTE[1], WHITE  # of a pair of boxes on one object
PAPER = "#eef0f3"  # around an image
EXAMPLE = (520, 390)  # px, width and height of an example in report.html
MARGIN = 0.18  # of the longer side of what an example shows, on each side


def draw_detections(
    image: Image.Image,
    found: Any,
    categories: Categories,
    truth_xyxy: Float[np.ndarray, "n 4"],
    *,
    threshold: float,
    size: int,
) -> Image.Image:
    """A detector's `Detections`, in the colours of their classes, over the dashed ground truth.

    Boxes are in px of the image, `size` is the longer side of the picture.
    """
    factor = size / max(image.size)
    wh = (round(image.width * factor), round(image.height * factor))
    found = found.above(threshold)
    rows = [categories.ids.index(category) for category in found.category_ids]
    return draw_boxes(
        image.resize(wh, Image.Resampling.BICUBIC),
        np.concatenate([found.boxes_xyxy, truth_xyxy]) * factor,
        [f"{name} {score:.2f}" for name, score in zip(found.names, found.scores, strict=True)],
        rows + [NEUTRAL] * len(truth_xyxy),
        dashed=[False] * len(found) + [True] * len(truth_xyxy),
    )


def sheet(pictures: Sequence[Image.Image], columns: int, gap: int = 10) -> Image.Image:
    """Pictures side by side, row by row, each in the middle of a cell that holds the largest."""
    width, height = (max(side) + gap for side in zip(*(p.size for p in pictures), strict=True))
    rows, columns = -(-len(pictures) // columns), min(columns, len(pictures))
    whole = Image.new("RGB", (columns * width + gap, rows * height + gap), "white")
    for place, picture in enumerate(pictures):
        x, y = place % columns * width, place // columns * height
        x, y = x + (width + gap - picture.width) // 2, y + (height + gap - picture.height) // 2
        whole.paste(picture, (x, y))
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
