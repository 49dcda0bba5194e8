"""The one function that draws boxes on images. Needs Pillow and NumPy alone."""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageColor, ImageDraw, ImageFont

# Okabe and Ito, "Color Universal Design" (2008): colour-blind people can tell these apart. The
# bright ones first; their black is left out.
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
NEUTRAL = -1  # the group that is drawn in white
WHITE, DARK = "#ffffff", "#15181c"
LINE, LETTERS = 200, 34  # parts of the picture's size that a line is wide and a letter high
SMALLEST = 11  # px of a letter that can still be read
HIDES = 0.12  # share of an object's box that labels may cover


def draw_boxes(
    image: Image.Image,
    boxes_xyxy: Float[np.ndarray, "n 4"],
    labels: Sequence[str] = (),
    groups: Sequence[int] = (),
    *,
    dashed: bool | Sequence[bool] = False,
    scale: float = 1.0,
    at_least: int = 0,
) -> Image.Image:
    """A copy of the image with boxes on it, the first on top, and their labels beside them.

    Lines have a dark edge, which shows on any background. Lines and letters follow the picture's
    size. A label stands where it covers no other label and least of the objects: above or below
    its box, beside it, or inside where there is room. Where it would hide more than 12 % of an
    object it is left out; a note in the picture and `picture.info["labels_left_out"]` count these.

    Args:
        image: of any mode; the copy is RGB.
        boxes_xyxy: px, exclusive; what lies outside the image is moved to its edge.
        labels: of each box, "" for none; or none at all. Earlier ones have the first choice.
        groups: of each box, a number such as its class's index; each has a colour of `PALETTE`
            (they repeat after seven), `NEUTRAL` is white. Without them all are of the first.
        dashed: which boxes are, as ground truth is.
        scale: makes lines and letters larger or smaller.
        at_least: px of the longer side; a smaller image is enlarged first.
    """
    picture = image.convert("RGB")
    boxes = np.asarray(boxes_xyxy, float).reshape(-1, 4)
    if max(picture.size) < at_least:
        wh = [max(round(side * at_least / max(image.size)), 1) for side in image.size]
        picture = picture.resize((wh[0], wh[1]), Image.Resampling.BICUBIC)
        boxes = boxes * np.tile(np.divide(wh, image.size), 2)
    boxes = np.clip(boxes, 0, np.tile(picture.size, 2))
    size = scale * float(np.sqrt(picture.width * picture.height))
    line = max(1, round(size / LINE))
    colours = [colour_of(group) for group in (groups or [0] * len(boxes))]
    outer = _draw_lines(ImageDraw.Draw(picture), picture.size, boxes, colours, dashed, line)
    if any(labels):
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        letters = max(SMALLEST, round(min(size / LETTERS, float(np.median(sides)) / 4)))
        _write(picture, boxes, outer, colours, labels, groups, letters)
    return picture


def colour_of(group: int) -> str:
    """The colour "#rrggbb" in which boxes of a group are drawn."""
    return WHITE if group == NEUTRAL else PALETTE[group % len(PALETTE)]


def _draw_lines(
    pen: ImageDraw.ImageDraw,
    wh: tuple[int, int],
    boxes: Float[np.ndarray, "n 4"],
    colours: Sequence[str],
    dashed: bool | Sequence[bool],
    line: int,
) -> Float[np.ndarray, "n 4"]:
    """Draws the outlines, centred on the outermost pixels of the boxes; returns what they cover."""
    moved = np.array([-1, -1, 1, 1]) * (line // 2) - [0, 0, 1, 1]
    edges = np.clip(np.rint(boxes).astype(int) + moved, 0, np.tile(wh, 2) - 1)
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2])
    rim = max(1, line // 4)
    dashes = np.where(np.broadcast_to(dashed, len(edges)), 3 * line, max(wh)).tolist()
    for box, colour, dash in reversed(list(zip(edges.tolist(), colours, dashes, strict=True))):
        strokes = list(_strokes(box, line, dash))
        for x0, y0, x1, y1 in strokes:
            pen.rectangle((x0 - rim, y0 - rim, x1 + rim, y1 + rim), fill=DARK)
        for stroke in strokes:
            pen.rectangle(stroke, fill=colour)
    return edges + np.array([-rim, -rim, rim + 1.0, rim + 1])


def _strokes(box: list[int], line: int, dash: int) -> Iterator[tuple[int, int, int, int]]:
    """The dashes of an outline, as corners of rectangles that belong to them."""
    x0, y0, x1, y1 = box
    for x in range(x0, x1 + 1, 2 * dash):
        yield x, y0, min(x + dash - 1, x1), min(y0 + line - 1, y1)
        yield x, max(y1 - line + 1, y0), min(x + dash - 1, x1), y1
    for y in range(y0, y1 + 1, 2 * dash):
        yield x0, y, min(x0 + line - 1, x1), min(y + dash - 1, y1)
        yield max(x1 - line + 1, x0), y, x1, min(y + dash - 1, y1)


def _write(
    picture: Image.Image,
    boxes: Float[np.ndarray, "n 4"],
    outer: Float[np.ndarray, "n 4"],
    colours: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[int],
    letters: int,
) -> None:
    """Writes the labels that find a place, and how many did not."""
    style = _Style(ImageDraw.Draw(picture), font(letters), max(letters // 5, 1))
    room = _Room(picture.size, boxes)
    plates = []
    for i in _turns(labels, groups):
        w, h = style.size_of(labels[i])
        spot = room.take(_beside(outer[i], w, h), w, h)
        if spot is not None:
            plates.append((spot, labels[i], colours[i]))
    left_out = sum(map(bool, labels)) - len(plates)
    if left_out:
        picture.info["labels_left_out"] = left_out
        note = f"+ {left_out} label{'s' * (left_out > 1)}"
        w, h = style.size_of(note)
        xs, ys = np.linspace(0, picture.width - w, 9), np.linspace(0, picture.height - h, 9)
        spots = [(x, y) for y in (ys[-1], ys[0]) for x in xs] + [(x, y) for x in xs for y in ys]
        if (spot := room.take(np.array(spots), w, h)) is not None:
            plates.append((spot, note, WHITE))
    for spot, text, colour in reversed(plates):
        style.plate(spot, text, colour)


def _turns(labels: Sequence[str], groups: Sequence[int]) -> list[int]:
    """Which labels are placed one after another: the first of each group, the second of each..."""
    seen: dict[int, int] = {}
    turns = []
    for i, label in enumerate(labels):
        if label:
            group = groups[i] if groups else 0
            turns.append((seen.get(group, 0), i))
            seen[group] = seen.get(group, 0) + 1
    return [i for _, i in sorted(turns)]


def _beside(box: Float[np.ndarray, "4"], w: int, h: int) -> Float[np.ndarray, "p 2"]:
    """Top left corners of a label around its box, and at last inside it, best first."""
    x0, y0, x1, y1 = box
    middle = (x0 + x1 - w) / 2
    above, below = ([(x, y) for x in (x0, x1 - w, middle)] for y in (y0 - h, y1))
    beside = [(x, y) for x in (x1, x0 - w) for y in (y0, y1 - h, (y0 + y1 - h) / 2)]
    inside = [(x, y) for y in (y0, y1 - h) for x in (x0, x1 - w)]
    return np.array([*above, *below, *beside, *inside])


@dataclasses.dataclass
class _Room:
    """What is still free of a picture: labels may hide `HIDES` of each box, and no other label."""

    wh: tuple[int, int]
    boxes: Float[np.ndarray, "n 4"]

    def __post_init__(self):
        self.area = np.maximum((self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1), 1)
        self.hidden = np.zeros(len(self.boxes))  # share of each box
        self.taken = np.zeros((0, 4))

    def take(self, spots: Float[np.ndarray, "p 2"], w: int, h: int) -> tuple[int, int] | None:
        """Takes the place where a label of that size hides least, or none."""
        low = np.rint(np.clip(spots, 0, np.maximum(np.subtract(self.wh, (w, h)), 0)))
        places = np.concatenate([low, low + np.array([w, h])], axis=1)
        hides = _common(places, self.boxes) / self.area
        allowed = (self.hidden + hides <= HIDES).all(axis=1)
        allowed &= ~_common(places, self.taken).any(axis=1)
        if not allowed.any():
            return None
        best = int(np.where(allowed, hides.sum(axis=1), np.inf).round(3).argmin())
        self.hidden += hides[best]
        self.taken = np.concatenate([self.taken, places[best : best + 1]])
        return int(low[best, 0]), int(low[best, 1])


def _common(a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "p n"]:
    """The area that rectangles have in common, px^2."""
    a = a[:, None]
    sides = np.minimum(a[..., 2:], b[:, 2:]) - np.maximum(a[..., :2], b[:, :2])
    return np.maximum(sides, 0).prod(axis=-1)


@dataclasses.dataclass(frozen=True)
class _Style:
    """How labels are written."""

    pen: ImageDraw.ImageDraw
    font: ImageFont.FreeTypeFont
    padding: int  # px, left and right of the text

    def size_of(self, text: str) -> tuple[int, int]:
        """Width and height of a label, px."""
        return round(self.font.getlength(text)) + 2 * self.padding, sum(self.font.getmetrics())

    def plate(self, spot: tuple[int, int], text: str, colour: str) -> None:
        """Writes a text on a plate of that colour, dark or white, whichever is read better."""
        (x, y), (w, h) = spot, self.size_of(text)
        self.pen.rectangle((x, y, x + w - 1, y + h - 1), fill=colour, outline=DARK)
        bright = np.dot(ImageColor.getrgb(colour)[:3], (0.3, 0.59, 0.11)) > 100
        self.pen.text((x + self.padding, y), text, fill=DARK if bright else WHITE, font=self.font)


@functools.lru_cache(maxsize=32)
def font(px: int) -> ImageFont.FreeTypeFont:
    """The letters of all pictures: DejaVu Sans, which matplotlib brings, or Pillow's own."""
    found = importlib.util.find_spec("matplotlib")  # its data alone: it is not imported
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if file.is_file():
            return ImageFont.truetype(file, px)
    return ImageFont.load_default(px)  # pyright: ignore[reportReturnType]
