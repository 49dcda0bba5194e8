"""The one rule by which the pixels of any image become 8-bit RGB."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pse_jax.errors import ImageError

RANGES = (1.0, 255.0, 65535.0)  # what white may be in an image of floating-point numbers
SCALE = "scale its values to 8 bits, 0 to 255, and save it as PNG"


def rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an open image, for training, evaluation and prediction alike.

    Of an animation it is the current frame, the first of a file. Transparency is ignored: the
    stored colours count. Grey of 16 bits (I;16, and I up to 65535) is cut to its high byte, as
    Pillow itself does with colours of 16 bits. Floating-point numbers run from 0 to 1, 255 or
    65535, whichever is the first to hold them all, and are rounded.

    Raises:
        ImageError: if it is a program (EPS), or has values without such a meaning.
    """
    if image.format == "EPS":  # Pillow would run it with Ghostscript
        raise ImageError("it is PostScript, a program and no pixels; convert it to PNG")
    if image.mode.startswith(("I", "F")):  # Pillow would turn them white
        return np.repeat(_eight_bits(np.asarray(image), image.mode)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _eight_bits(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "h w"]:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= RANGES[-1]):  # nor NaN
        raise ImageError(
            f"its values (mode {mode}) run from {low:g} to {high:g}; known are 0 to 65535 and, of "
            f"floating-point numbers, 0 to 1 and 0 to 255: {SCALE}"
        )
    if mode == "F":
        white = next(end for end in RANGES if high <= end)
        return np.rint(values * (255 / white)).astype(np.uint8)
    return (values.astype(np.int64) >> 8).astype(np.uint8)
