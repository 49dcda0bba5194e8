"""What happens to one image between its file and the batch: decode, resize, flip, pad.

Pixels stay uint8 RGB here; the device subtracts the mean. Boxes are exclusive xyxy in pixels.
"""

import io
import os
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from pse_jax.data import modes
from pse_jax.errors import ImageError
from pse_jax.files import open_regular

try:
    import cv2  # pyright: ignore[reportMissingImports]

    cv2.setNumThreads(0)  # the pipeline has threads of its own
except ImportError:
    cv2 = None

ANTIALIASED = ("fcos", "detectron2")  # resize rules

Pixels = UInt8[np.ndarray, "h w 3"]  # RGB
Boxes = Float[np.ndarray, "n 4"]  # xyxy, px


def resized_hw(
    height: int, width: int, short_side: int, long_side: int, rule: str = "fcos"
) -> tuple[int, int]:
    """The short side to `short_side`, the long one at most to `long_side`, rounded by a rule.

    "fcos" rounds the short side half to even and then cuts the long side, which so may end a few
    pixels over its limit when the image is very elongated. "detectron2" and "mmdet" round both
    sides half up, "torchvision" cuts both. 640x480 px become 1066x800 with "fcos" and
    "torchvision", 1067x800 with the others. A short side that would round to nothing is one pixel,
    and the long one `long_side`.
    """
    short, long = min(height, width), max(height, width)
    if rule == "fcos":
        size = short_side
        if long / short * size > long_side:
            size = round(long_side * short / long)
        if size < 1:
            return (1, long_side) if height <= width else (long_side, 1)
        if size == short:
            return height, width
        other = int(size * long / short)
        return (size, other) if height <= width else (other, size)
    scale = min(short_side / short, long_side / long)
    rounding = 0.0 if rule == "torchvision" else 0.5
    return max(int(height * scale + rounding), 1), max(int(width * scale + rounding), 1)


def orientation_of(image: Image.Image) -> int:
    """How an image is stored, by its EXIF: 1 upright; 2 to 4 mirrored or by half; 5 to 8 on a side.

    An orientation that is broken or unknown is 1, and so is TIFF's, which Pillow applies itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many kinds for broken EXIF
        return 1
    return value if isinstance(value, int) and 2 <= value <= 8 else 1


def decided_by_size(orientation: int, wh: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Whether an annotated size fits an image of `wh` px, as stored, in one orientation only."""
    return orientation >= 5 and wh[0] != wh[1] and tuple(size_hw) in (wh, wh[::-1])


def upright(image: Image.Image, exif: str, size_hw: tuple[int, int] | None = None) -> Pixels:
    """The one rule by which photos are turned, for training, evaluation, `check` and `Detector`.

    Args:
        image: as opened.
        exif: "apply" or "ignore": what is done with an orientation.
        size_hw: its annotated height and width; if they fit only the image as stored, or only the
            turned one, that decides and not `exif`.

    Raises:
        ImageError: if its pixels cannot be turned into 8-bit RGB: `modes.rgb`.
    """
    wh = image.size
    pixels = modes.rgb(image)
    orientation = orientation_of(image)
    apply = exif == "apply"
    if size_hw is not None and decided_by_size(orientation, wh, size_hw):
        apply = tuple(size_hw) == wh  # on its side: as high as stored wide
    return _turned(pixels, orientation) if apply and orientation != 1 else pixels


def _turned(pixels: Pixels, orientation: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Undoes an EXIF orientation (EXIF 2.3, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decode(content: bytes, name: str, size_hw: tuple[int, int], exif: str = "apply") -> Pixels:
    """The pixels of an encoded image, RGB, turned as its annotations are: see `upright`.

    Args:
        content: the bytes of the file.
        name: of the file, for messages.
        size_hw: its annotated height and width; nothing is decoded of an image of another size.
        exif: "apply" or "ignore".

    Raises:
        ImageError: if it cannot be decoded or is of another size.
    """
    height, width = size_hw
    try:
        with Image.open(io.BytesIO(content)) as image:
            wh, pixels = image.size, None
            if wh in ((width, height), (height, width)):
                pixels = upright(image, exif, (height, width))
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ImageError(f"{name} cannot be decoded: {reason(error)}") from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ImageError(
            f"{name} is {wh[0]}x{wh[1]} px, but its annotations say {width}x{height}: the boxes "
            "would be in the wrong place"
        )
    return pixels


def reason(error: Exception) -> str:
    """What an exception says, or its name if it says nothing."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or in a format that Pillow does not read"
    if isinstance(error, Image.DecompressionBombError):  # over 178,956,970 px
        return f"{str(error).split(',')[0]}; make it smaller, or cut it into parts"
    return str(error) or type(error).__name__


def pixels_of(image: Any, exif: str = "apply") -> Pixels:
    """The pixels of a path, a Pillow image (both turned by their EXIF: `upright`) or an array, RGB.

    Raises:
        ImageError: if it cannot be read or decoded, or is no uint8 array [height, width, 3].
    """
    if isinstance(image, str | os.PathLike):
        try:
            with open_regular(image) as file, Image.open(file) as opened:
                return upright(opened, exif)
        except Exception as error:  # Pillow raises many kinds for broken files
            if isinstance(error, OSError) and error.strerror:  # the system's, not Pillow's
                raise ImageError(f"{image} cannot be read: {error.strerror}") from error
            raise ImageError(f"{image} cannot be decoded: {reason(error)}") from error
    if isinstance(image, Image.Image):
        return upright(image, exif)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        found = f"an array of type {image.dtype} and shape {image.shape}"
    else:
        found = f"a {type(image).__name__}"
    raise ImageError(
        f"an image is a path, a Pillow image or a uint8 RGB array [height, width, 3], not {found}"
    )


def resize(pixels: Pixels, hw: tuple[int, int], rule: str = "fcos") -> UInt8[np.ndarray, "h2 w2 3"]:
    """Bilinear. The rules "fcos" and "detectron2" antialias an image that shrinks, as Pillow does.

    "mmdet" and "torchvision" do not: they mix the four nearest pixels only. Both are within one
    grey level of the originals, OpenCV's and, before its rounding, PyTorch's. Rows first, then
    columns: Pillow 13 would take the columns of tall images first, which differs by a level here
    and there. export/resize.py computes the same bits where cv2 is not installed.
    """
    if pixels.shape[:2] == tuple(hw):
        return pixels
    if cv2 is not None and hw[0] >= pixels.shape[0]:  # upwards all agree, within one grey level
        return cv2.resize(pixels, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
    shrinks = hw[0] < pixels.shape[0] or hw[1] < pixels.shape[1]
    if shrinks and rule not in ANTIALIASED:
        return _mix_two(_mix_two(pixels, hw[1], axis=1), hw[0], axis=0)
    wide = Image.fromarray(pixels).resize((hw[1], pixels.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(wide.resize((hw[1], hw[0]), Image.Resampling.BILINEAR))


def _mix_two(pixels: Pixels, m: int, axis: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resizes an axis to m pixels, mixing two for each; in fixed point, as Pillow."""
    n = pixels.shape[axis]
    first, rest = np.divmod((2 * np.arange(m) + 1) * n - m, 2 * m)
    shape = [1, 1, 1]
    shape[axis] = m
    mixed = np.full((), 1 << 21, np.int32)
    for j, part in ((first, 2 * m - rest), (first + 1, rest)):
        share = ((part << 23) + 2 * m) // (4 * m)  # part / 2m in units of 2**-22
        picked = np.take(pixels, np.clip(j, 0, n - 1), axis)
        mixed = mixed + picked * share.astype(np.int32).reshape(shape)
    return (mixed >> 22).astype(np.uint8)


def scale_boxes(boxes_xyxy: Boxes, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Boxes:
    """Boxes after a resize; each axis by its own factor."""
    factor = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]], np.float32)
    return boxes_xyxy * np.tile(factor, 2)


def clip(boxes_xyxy: Boxes, hw: tuple[int, int]) -> Boxes:
    """Boxes cut to an image of this size."""
    return np.clip(boxes_xyxy, 0, np.tile(np.array(hw[::-1], np.float32), 2))


def flip(pixels: Pixels, boxes_xyxy: Boxes) -> tuple[Pixels, Boxes]:
    """Left becomes right: x' = width - x for exclusive boxes."""
    width = np.float32(pixels.shape[1])
    mirrored = boxes_xyxy.copy()
    mirrored[:, [0, 2]] = width - boxes_xyxy[:, [2, 0]]
    if cv2 is not None:
        return cv2.flip(pixels, 1), mirrored
    turned = np.empty_like(pixels)
    for channel in range(3):  # five times as fast as copying pixels[:, ::-1]
        turned[..., channel] = pixels[:, ::-1, channel]
    return turned, mirrored


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
