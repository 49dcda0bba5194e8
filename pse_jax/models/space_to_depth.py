"""The stem of narrow networks with each 2x2 pixels as one of four times the channels, for CPUs.

A 7x7 convolution of stride 2 over 3 channels is then one of 4x4 and stride 1 over 12: the same
products and sums, in another order. On CPUs XLA is slow with strides and few channels: its gradient
by the kernel takes up to four times as long. Elsewhere, and for the paper's 64 outputs, the
library's convolution is used.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pse_jax.models.convolution import LAYOUT, library

INPUTS, OUTPUTS = 4, 16  # at most; with more outputs, it is slower (benchmarks/layers.py)


def pays(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int) -> bool:
    """Whether this is faster on a CPU, by the shape."""
    size, _, inputs, outputs = kernel.shape
    few = inputs <= INPUTS and outputs <= OUTPUTS
    return few and stride == 2 and size == 7 and x.dtype == jnp.float32


def product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "7 7 c c2"]
) -> Float[Array, "b h2 w2 c2"]:
    """A 7x7 convolution of stride 2, padded by three; on CPUs by way of 2x2 pixels as one."""
    return jax.lax.platform_dependent(
        x, kernel, cpu=by_blocks, default=lambda x, kernel: library(x, kernel, 2)
    )


def by_blocks(
    x: Float[Array, "b h w c"], kernel: Float[Array, "7 7 c c2"]
) -> Float[Array, "b h2 w2 c2"]:
    """The same, from blocks of 2x2 pixels.

    Output i sees pixels 2i - 3 to 2i + 3: blocks i - 2 to i + 1, less the first pixel of the first.
    """
    (b, h, w, c), outputs = x.shape, kernel.shape[-1]
    rows, columns = -(-h // 2), -(-w // 2)  # of outputs
    ends = [(4, 2 * (count + 3) - 4 - size) for count, size in ((rows, h), (columns, w))]
    x = jnp.pad(x, ((0, 0), *ends, (0, 0)))
    blocks = x.reshape(b, rows + 3, 2, columns + 3, 2, c).swapaxes(2, 3)
    taps = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    taps = taps.reshape(4, 2, 4, 2, c, outputs).swapaxes(1, 2)
    return jax.lax.conv_general_dilated(
        blocks.reshape(b, rows + 3, columns + 3, 4 * c),
        taps.reshape(4, 4, 4 * c, outputs),
        (1, 1),
        "VALID",
        dimension_numbers=LAYOUT,
    )
