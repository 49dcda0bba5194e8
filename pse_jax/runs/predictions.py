"""What was found in photos, as files: COCO's results, a table of the images, drawn images."""

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pse_jax.detector import Detector
from pse_jax.errors import WriteError
from pse_jax.files import make_folder, write_together, write_whole
from pse_jax.runs.photos import Found, Photo, free_names

AT_LEAST = 480  # px of the longer side of a drawn image; smaller ones are enlarged


class Predictions:
    """The folder that `predict` writes: detections.json, images.json, and the drawn images."""

    def __init__(
        self,
        folder: Path,
        photos: Sequence[Photo],
        detector: Detector,
        thresholds: Mapping[int, float],
    ):
        self.folder = folder
        self.detector, self.thresholds = detector, thresholds
        self.drawn = dict(zip(photos, free_names([p.name for p in photos]), strict=True))
        self.number = {photo: number for number, photo in enumerate(photos, 1)}
        self.done: dict[Photo, Found] = {}

    def check(self) -> None:
        """Raises WriteError if a drawn image would replace one that was given."""
        given = {os.path.realpath(photo.path): photo for photo in self.drawn}
        for name in self.drawn.values():
            if photo := given.get(os.path.realpath(self.folder / name)):
                raise WriteError(
                    f"--out {self.folder}: the drawn image would replace {photo.path}; give "
                    "another folder, or --no-images"
                )

    def keep(self, found: Found) -> Found:
        """Notes what came of a photo, to be written by `write`."""
        self.done[found.photo] = found
        return found

    def draw(self, found: Found) -> Found:
        """Writes the drawn image of a photo; why it cannot is its failure."""
        if found.detections is None:
            return found
        file = self.folder / self.drawn[found.photo]
        try:
            picture = found.detections.draw(
                found.photo.path,
                threshold=self.thresholds,
                exif=self.detector.config.data.exif,
                at_least=AT_LEAST,
            )
            stream = io.BytesIO()
            options = {} if file.suffix.lower() == ".png" else {"quality": 90}
            picture.save(stream, Image.registered_extensions()[file.suffix.lower()], **options)
            make_folder(file.parent, "a folder of drawn images")
            write_whole(file, stream.getvalue(), "the drawn image")
        except Exception as error:  # a name too long, a photo that is gone by now
            return dataclasses.replace(found, failure=f"cannot be drawn: {error}")
        return found

    def row(self, found: Found) -> dict[str, Any]:
        """A photo in images.json; with `id` its number among those that were given, from 1."""
        row = {
            "id": self.number.get(found.photo),
            "file_name": found.photo.name,
            "path": str(found.photo.path),
        }
        if found.size_hw:
            row |= {"width": found.size_hw[1], "height": found.size_hw[0]}
        if found.failure:
            row |= {"failure": found.failure}
        return row

    def write(self) -> None:
        """Writes both JSON files with what is there up to now.

        Raises:
            WriteError: if they cannot be written.
        """
        make_folder(self.folder, "the folder of the predictions")
        results = [
            {"image_id": self.number[found.photo], "category_id": c, "bbox": b, "score": s}
            for found in self.done.values()
            if found.detections is not None
            for c, b, s in columns(found)
        ]
        categories = self.detector.categories
        table = {
            "images": [self.row(f) for f in self.done.values() if f.detections is not None],
            "failed": [self.row(f) for f in self.done.values() if f.failure],
            "categories": [
                {"id": i, "name": name, "threshold": self.thresholds[i]}
                for i, name in zip(categories.ids, categories.names, strict=True)
            ],
            "step": self.detector.step,
        }
        contents: dict[Path, str | bytes] = {
            self.folder / "detections.json": json.dumps(results),
            self.folder / "images.json": json.dumps(table, indent=1) + "\n",
        }
        write_together(contents, "the predictions")


def columns(found: Found) -> list[tuple[int, list[float], float]]:
    """Category id, xywh in px and score of each detection, as eval.py writes them."""
    if found.detections is None:
        return []
    boxes = np.asarray(found.detections.boxes_xyxy, np.float64)
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    scores = np.asarray(found.detections.scores, np.float64)
    ids = found.detections.category_ids
    return list(zip(ids.tolist(), boxes.tolist(), scores.tolist(), strict=True))
