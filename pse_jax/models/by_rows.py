"""3x3 convolutions whose gradient by the kernel is three products of matrices, for CPUs.

XLA computes that gradient on CPUs as a convolution with a kernel as large as the image, which takes
twice as long for the few channels and small images of configs/shapes_small.py. Larger ones have
Winograd's form (winograd.py). On GPUs and TPUs all is the library's.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pse_jax.models.convolution import is_plain, library

CHANNELS, PIXELS = 48, 2_500  # of a batch: with fewer, there is little to gain


def pays(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int) -> bool:
    """Whether this is faster on a CPU, by the shape (benchmarks/layers.py)."""
    b, h, w, _ = x.shape
    if not isinstance(b, int):  # of an exported program, which takes any batch and no gradient
        return False
    many = min(kernel.shape[2:]) >= CHANNELS and b * h * w >= PIXELS
    return many and is_plain(x, kernel, stride)


@jax.custom_vjp
def product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c c2"]
) -> Float[Array, "b h w c2"]:
    """The library's convolution at stride 1, padded by one; on CPUs with a gradient of its own."""
    return library(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return library(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (of_x,) = jax.linear_transpose(lambda x: library(x, kernel), x)(slope)
    return of_x, jax.lax.platform_dependent(x, slope, cpu=kernel_gradient, default=by_library)


product.defvjp(_forward, _backward)


def kernel_gradient(
    x: Float[Array, "b h w c"], slope: Float[Array, "b h w c2"]
) -> Float[Array, "3 3 c c2"]:
    """The gradient by the kernel, of the gradient `slope` by the outputs.

    A row of taps at a time: x, moved by that row, times three copies of the slope, each moved to
    where its tap sees x.
    """
    (_, h, _, c), c2 = x.shape, slope.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moved = [jnp.pad(slope, ((0, 0), (0, 0), (tap, 2 - tap), (0, 0))) for tap in range(3)]
    slopes = jnp.concatenate(moved, axis=3).reshape(-1, 3 * c2)
    rows = [x[:, tap : tap + h].reshape(-1, c).T @ slopes for tap in range(3)]
    return jnp.stack(rows).reshape(3, c, 3, c2).swapaxes(1, 2)


def by_library(
    x: Float[Array, "b h w c"], slope: Float[Array, "b h w c2"]
) -> Float[Array, "3 3 c c2"]:
    """The same, as the library's convolution is differentiated."""
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[3], slope.shape[3]), x.dtype)
    return jax.linear_transpose(lambda kernel: library(x, kernel), kernel)(slope)[0]
