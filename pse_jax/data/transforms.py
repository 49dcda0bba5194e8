"""What happens to one image between its file and the batch: decode, resize, flip, pad.

Pixels stay uint8 RGB here; the device subtracts the mean. Boxes are exclusive xyxy in pixels.
"""

import io
import os
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps

from pse_jax.errors import ImageError

try:
    import cv2  # pyright: ignore[reportMissingImports]

    cv2.setNumThreads(0)  # the pipeline has threads of its own
except ImportError:
    cv2 = None

Pixels = UInt8[np.ndarray, "h w 3"]  # RGB
Boxes = Float[np.ndarray, "n 4"]  # xyxy, px


def resized_hw(
    height: int, width: int, short_side: int, long_side: int, rule: str = "fcos"
) -> tuple[int, int]:
    """The short side to `short_side`, the long one at most to `long_side`, rounded by a rule.

    "fcos" rounds the short side half to even and then cuts the long side, which so may end a few
    pixels over its limit when the image is very elongated. "detectron2" and "mmdet" round both
    sides half up, "torchvision" cuts both. 640x480 px become 1066x800 with "fcos" and
    "torchvision", 1067x800 with the others.
    """
    short, long = min(height, width), max(height, width)
    if rule == "fcos":
        size = short_side
        if long / short * size > long_side:
            size = round(long_side * short / long)
        size = max(size, 1)
        if size == short:
            return height, width
        other = int(size * long / short)
        return (size, other) if height <= width else (other, size)
    scale = min(short_side / short, long_side / long)
    rounding = 0.0 if rule == "torchvision" else 0.5
    return max(int(height * scale + rounding), 1), max(int(width * scale + rounding), 1)


def decode(content: bytes, name: str, size_hw: tuple[int, int]) -> Pixels:
    """The pixels of an encoded image, RGB; EXIF orientation is not applied, as in the reference.

    Args:
        content: the bytes of the file.
        name: of the file, for messages.
        size_hw: its annotated height and width.

    Raises:
        ImageError: if it cannot be decoded or is of another size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = _rgb(image)
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ImageError(f"{name} cannot be decoded: {error}") from error
    if pixels.shape[:2] != tuple(size_hw):
        raise ImageError(
            f"{name} is {pixels.shape[1]}x{pixels.shape[0]} px, but its annotations say "
            f"{size_hw[1]}x{size_hw[0]}: the boxes would be in the wrong place"
        )
    return pixels


def pixels_of(image: Any) -> Pixels:
    """The pixels of a path, a Pillow image (both turned upright by their EXIF) or an array, RGB.

    Raises:
        ImageError: if it cannot be decoded, or is no uint8 array [height, width, 3].
    """
    if isinstance(image, str | os.PathLike):
        try:
            with Image.open(image) as opened:
                return _rgb(ImageOps.exif_transpose(opened))
        except Exception as error:
            raise ImageError(f"{image} cannot be decoded: {error}") from error
    if isinstance(image, Image.Image):
        return _rgb(ImageOps.exif_transpose(image))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        found = f"an array of type {image.dtype} and shape {image.shape}"
    else:
        found = f"a {type(image).__name__}"
    raise ImageError(
        f"an image is a path, a Pillow image or a uint8 RGB array [height, width, 3], not {found}"
    )


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith(("I", "F")):  # Pillow would turn them white
        raise ImageError(f"it has more than 8 bits per channel ({image.mode}); convert it")
    return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, hw: tuple[int, int], rule: str = "fcos") -> UInt8[np.ndarray, "h2 w2 3"]:
    """Bilinear. The rules "fcos" and "detectron2" antialias an image that shrinks, as Pillow does.

    "mmdet" and "torchvision" do not: they mix the four nearest pixels only. Both are within one
    grey level of the originals, OpenCV's and, before its rounding, PyTorch's.
    """
    if pixels.shape[:2] == tuple(hw):
        return pixels
    if cv2 is not None and hw[0] >= pixels.shape[0]:  # upwards all agree, within one grey level
        return cv2.resize(pixels, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
    image, wh = Image.fromarray(pixels), (hw[1], hw[0])
    if rule in ("fcos", "detectron2"):
        return np.asarray(image.resize(wh, Image.Resampling.BILINEAR))
    scale = (image.width / wh[0], 0, 0, 0, image.height / wh[1], 0)
    nearest_four = Image.Resampling.BILINEAR  # a transform does not antialias, `resize` does
    return np.asarray(image.transform(wh, Image.Transform.AFFINE, scale, nearest_four))


def scale_boxes(boxes_xyxy: Boxes, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Boxes:
    """Boxes after a resize; each axis by its own factor."""
    factor = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]], np.float32)
    return boxes_xyxy * np.tile(factor, 2)


def flip(pixels: Pixels, boxes_xyxy: Boxes) -> tuple[Pixels, Boxes]:
    """Left becomes right: x' = width - x for exclusive boxes."""
    width = np.float32(pixels.shape[1])
    mirrored = boxes_xyxy.copy()
    mirrored[:, [0, 2]] = width - boxes_xyxy[:, [2, 0]]
    return pixels[:, ::-1], mirrored


def pad(pixels: Pixels, canvas_hw: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image in the top left corner of the canvas."""
    canvas = np.zeros((*canvas_hw, 3), np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


def pad_boxes(
    boxes_xyxy: Boxes, labels: Int[np.ndarray, " n"], capacity: int
) -> dict[str, np.ndarray]:
    """Boxes in `capacity` slots, with the mask of those that are real."""
    count = len(labels)
    if count > capacity:
        raise ValueError(f"{count} boxes do not fit in {capacity} slots")
    slots = np.zeros((capacity, 4), np.float32)
    slots[:count] = boxes_xyxy
    padded_labels = np.zeros(capacity, np.int32)
    padded_labels[:count] = labels
    return {"boxes": slots, "labels": padded_labels, "box_valid": np.arange(capacity) < count}
