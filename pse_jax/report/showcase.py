"""Images of an evaluation, each as its ground truth and its detections: best, typical, worst."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pse_jax.data.dataset import Dataset
from pse_jax.drawing import draw_boxes
from pse_jax.errors import ImageError
from pse_jax.evaluation.arrays import xywh_to_xyxy
from pse_jax.evaluation.judged import Judged, choose_images, image_scores
from pse_jax.report.pictures import cell_size, sheet

LARGEST = 800  # px, the longer side of a drawn image
SCALE, FEW = 1.5, 8  # larger lines and letters where there are so few objects: images are small
EACH = 4  # images of a kind


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image twice, and how well its detections fit."""

    kind: str  # best, typical or worst
    caption: str
    truth: Image.Image | None  # None: the image cannot be read
    found: Image.Image | None


def showcase(judged: Judged, dataset: Dataset, each: int = EACH) -> list[Shown]:
    """The best, typical and worst images by F1 at the best threshold, drawn."""
    scores = image_scores(judged, judged.threshold)
    chosen = choose_images(scores, each)
    shown = []
    for kind, images in chosen.items():
        for i in images.tolist():
            counts = (
                f"{scores.correct[i]} right, {scores.wrong[i]} wrong, {scores.missed[i]} missed"
            )
            caption = f"{judged.truth.image_names[i]}: F1 {scores.f1[i]:.2f}; {counts}"
            try:
                image = Image.fromarray(dataset.pixels_of(i))
            except (ImageError, OSError) as error:
                shown.append(Shown(kind, f"{caption}; it cannot be read: {error}", None, None))
                continue
            shown.append(Shown(kind, caption, *_draw(judged, dataset, i, image)))
    return shown


def _draw(
    judged: Judged, dataset: Dataset, i: int, image: Image.Image
) -> tuple[Image.Image, Image.Image]:
    found, names = judged.found, judged.truth.categories.names
    rows = np.flatnonzero((found.image == i) & (found.scores >= judged.threshold))
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    boxes, labels = dataset.boxes_of(i)
    objects = max(len(rows), len(boxes))
    scale = SCALE if objects <= FEW else 1.0
    factor = min(cell_size(objects), LARGEST) / max(image.size)
    wh = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.resize(wh, Image.Resampling.BICUBIC)
    truth = draw_boxes(
        image, boxes * factor, [names[k] for k in labels], labels.tolist(), dashed=True, scale=scale
    )
    drawn = draw_boxes(
        image,
        xywh_to_xyxy(found.boxes_xywh[rows]) * factor,
        [f"{names[found.category[k]]} {found.scores[k]:.2f}" for k in rows],
        found.category[rows].tolist(),
        scale=scale,
    )
    return truth, drawn


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a JPEG file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return stream.getvalue()


def sheets(shown: Sequence[Shown]) -> dict[str, bytes]:
    """The images of each kind on one sheet, for TensorBoard, as PNG files; half the size."""
    made = {}
    for kind in dict.fromkeys(one.kind for one in shown):
        cells = [
            sheet([one.truth, one.found], 2, gap=4)
            for one in shown
            if one.kind == kind and one.truth is not None and one.found is not None
        ]
        if cells:
            stream = io.BytesIO()
            sheet(cells, 2).reduce(2).save(stream, "PNG", compress_level=4)
            made[kind] = stream.getvalue()
    return made
