"""Pictures of what training teaches: which location answers for which object."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from pse_jax.categories import Categories
from pse_jax.config import Config
from pse_jax.drawing import DARK, NEUTRAL, colour_of, draw_boxes, font
from pse_jax.points import STRIDES
from pse_jax.report.assigned import Assigned, Assigner

SIZE = 1200  # px of a picture's longer side, at least; smaller images are enlarged
LEGEND = 26  # px
RADII = (0.22, 3.0, 11.0)  # of a dot: parts of the stride, least and most px


@dataclasses.dataclass(frozen=True)
class Taught:
    """An image as the network gets it, its objects, and who answers for them."""

    image_id: int
    picture: Image.Image
    locations: tuple[int, ...]  # on P3 to P7
    boxes: int
    lost: tuple[str, ...]  # objects without any location: category and xyxy, px of the input

    def told(self) -> str:
        """In a line: how many objects and locations, and which objects have none."""
        levels = [f"P{k} {n}" for k, n in enumerate(self.locations, 3) if n]
        locations = f"{sum(self.locations):,} locations ({', '.join(levels) or 'none'})"
        without = f"; without any: {', '.join(self.lost)}" if self.lost else ""
        return f"{self.boxes:,} {'object' if self.boxes == 1 else 'objects'}, {locations}{without}"


class Draw:
    """Draws images of a training batch with the locations that answer for each object."""

    def __init__(self, config: Config, categories: Categories, by: str = "object"):
        """`by`: what a dot's colour tells, "object" or "level"."""
        self.config, self.categories, self.by = config, categories, by
        self.assigners: dict[tuple[int, int], Assigner] = {}

    def __call__(self, row: dict[str, np.ndarray], image_id: int) -> Taught:
        """One row of a batch, as `pipeline.batches` gives it."""
        canvas = row["image"]
        height, width = row["size_hw"].tolist()
        boxes, labels = (row[name][row["box_valid"]] for name in ("boxes", "labels"))
        hw = canvas.shape[:2]
        if hw not in self.assigners:
            self.assigners[hw] = Assigner((hw[0], hw[1]), self.config)
        found = self.assigners[hw](boxes)
        counts = np.bincount(found.boxes, minlength=len(boxes))
        names = [self.categories.names[label] for label in labels]
        lost = [
            f"{names[k]} [{', '.join(f'{v:.0f}' for v in boxes[k])}]"
            for k in np.flatnonzero(counts == 0)
        ]
        image = Image.fromarray(canvas[:height, :width])
        levels = np.bincount(found.levels, minlength=len(STRIDES))
        return Taught(
            image_id,
            self._picture(image, boxes, names, counts, found, levels),
            tuple(levels.tolist()),
            len(boxes),
            tuple(lost),
        )

    def _picture(
        self,
        image: Image.Image,
        boxes: np.ndarray,
        names: list[str],
        counts: np.ndarray,
        found: Assigned,
        levels: np.ndarray,
    ) -> Image.Image:
        """Boxes in the colours of their objects, dashed where no location answers, and dots."""
        groups = [NEUTRAL] * len(boxes) if self.by == "level" else list(range(len(boxes)))
        labels = [
            f"{name} {count}" if count else f"{name}: no location"
            for name, count in zip(names, counts.tolist(), strict=True)
        ]
        order = np.argsort(counts, kind="stable")  # those without have the first choice of a place
        drawn = draw_boxes(
            image,
            boxes[order],
            [labels[k] for k in order],
            [groups[k] for k in order],
            dashed=(counts[order] == 0).tolist(),
            scale=0.7,
            at_least=SIZE,
        )
        scale = drawn.width / image.width
        pen = ImageDraw.Draw(drawn)
        for (x, y), level, box in sorted(
            zip(found.points_xy.tolist(), found.levels.tolist(), found.boxes.tolist(), strict=True),
            key=lambda dot: -dot[1],  # large ones below
        ):
            colour = colour_of(level if self.by == "level" else box)
            _dot(pen, x * scale, y * scale, radius_of(level, scale), colour)
        return _with_legend(drawn, levels, scale, self.by)


def radius_of(level: int, scale: float) -> float:
    """Of the dots of a level, px."""
    share, least, most = RADII
    return float(np.clip(share * STRIDES[level] * scale, least, most) * (0.55 + 0.15 * level))


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: str) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=DARK)


def _with_legend(drawn: Image.Image, levels: np.ndarray, scale: float, by: str) -> Image.Image:
    """The picture over a line that tells the levels apart and counts their locations."""
    whole = Image.new("RGB", (drawn.width, drawn.height + LEGEND), "white")
    whole.paste(drawn, (0, 0))
    pen, x, y = ImageDraw.Draw(whole), 12.0, drawn.height + LEGEND / 2
    for level, count in enumerate(levels.tolist()):
        radius = radius_of(level, scale)
        _dot(pen, x + radius, y, radius, colour_of(level) if by == "level" else "#9aa1a9")
        text = f"P{level + 3}, stride {STRIDES[level]}: {count}"
        pen.text((x + 2 * radius + 6, y), text, fill=DARK, font=font(13), anchor="lm")
        x += 2 * radius + 6 + font(13).getlength(text) + 22
    return whole
