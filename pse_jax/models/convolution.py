"""The library's convolution, and which ones there are faster forms of on CPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")  # of images, kernels, outputs


def library(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int = 1
) -> Float[Array, "b h2 w2 c2"]:
    """The library's convolution, padded by half the kernel on all sides."""
    pad = len(kernel) // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=LAYOUT
    )


def is_plain(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int) -> bool:
    """Whether it is one of 3x3 at stride 1 in float32: what winograd.py and by_rows.py compute."""
    return kernel.shape[:2] == (3, 3) and stride == 1 and x.dtype == jnp.float32
