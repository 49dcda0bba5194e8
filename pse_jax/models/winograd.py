"""3x3 convolutions with fewer multiplications, for CPUs: Winograd's F(2x2, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), sec. 4.1: a tile of 2x2
outputs is Y = A'[(G g G') * (B' d B)]A, of the 4x4 pixels d that it sees and the kernel g. Their
product takes 16 multiplications for each pair of channels, not 36. Summed over channels it is
sixteen plain matrix products, one for each place in a tile. Both gradients have the same form.
Dimensions: b images, h rows, w columns, c channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

INPUTS = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])  # B'
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # G
OUTPUTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])  # A'
# What each place takes of each tap, as G g G' does; places are columns before rows, as in _tiles.
TAPS = np.einsum("ik,jl->jikl", KERNEL, KERNEL).reshape(16, 3, 3).astype(np.float32)
CHANNELS, VALUES = 64, 50_000  # of an image: below these, the additions cost what is saved


def pays(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int) -> bool:
    """Whether this is faster on a CPU, by the shape (benchmarks/layers.py): 3x3, many channels."""
    _, h, w, c = x.shape
    if kernel.shape[:2] != (3, 3) or stride != 1 or x.dtype != jnp.float32:
        return False
    return min(kernel.shape[2:]) >= CHANNELS and h * w * c >= VALUES


@jax.custom_vjp
def product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c c2"]
) -> Float[Array, "b h w c2"]:
    """`convolve` on a CPU, and elsewhere the library's convolution, which knows this by itself."""
    return jax.lax.platform_dependent(x, kernel, cpu=convolve, default=_library)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    def on_cpu(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)  # by half, and its channels exchanged
        return convolve(slope, turned), kernel_gradient(x, slope)

    def elsewhere(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
        return jax.vjp(_library, x, kernel)[1](slope)

    return jax.lax.platform_dependent(*saved, slope, cpu=on_cpu, default=elsewhere)


product.defvjp(_forward, _backward)


def _library(x: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1),) * 2, dimension_numbers=layout)


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c c2"]
) -> Float[Array, "b h w c2"]:
    """The convolution at stride 1, padded by one; float32, within 1e-6 of the largest value."""
    b, h, w, _ = x.shape
    places = _of_inputs(x) @ jnp.tensordot(TAPS, kernel, 2)
    m = places.reshape(4, 4, b, (h + 1) // 2, (w + 1) // 2, -1)
    rows = [_joined(_mixed(OUTPUTS, list(m[:, i])), axis=2) for i in range(4)]
    return _joined(_mixed(OUTPUTS, rows), axis=1)[:, :h, :w]


def kernel_gradient(
    x: Float[Array, "b h w c"], slope: Float[Array, "b h w c2"]
) -> Float[Array, "3 3 c c2"]:
    """The gradient by the kernel, of the gradient `slope` by the convolution's outputs."""
    _, h, w, _ = slope.shape
    slope = jnp.pad(slope, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    places = _of_inputs(x).swapaxes(1, 2) @ _tiles(OUTPUTS.T, slope)
    return jnp.tensordot(TAPS, places, (0, 0))


def _of_inputs(x: Float[Array, "b h w c"]) -> Float[Array, "16 tiles c"]:
    """B' d B of every tile: two pixels apart, overlapping by two."""
    _, h, w, _ = x.shape
    return _tiles(INPUTS, jnp.pad(x, ((0, 0), (1, 1 + h % 2), (1, 1 + w % 2), (0, 0))))


def _tiles(matrix: np.ndarray, x: Float[Array, "b h w c"]) -> Float[Array, "16 tiles c"]:
    """M d M' of every tile d of x, which is as large as the matrix M takes."""
    rows = jnp.stack(_mixed(matrix, _steps(x, 1, matrix.shape[1])))
    places = jnp.stack(_mixed(matrix, _steps(rows, 3, matrix.shape[1])))
    return places.reshape(16, -1, x.shape[-1])


def _steps(x: Array, axis: int, count: int) -> list[Array]:
    """Every second value along an axis, from the first, the second and so on: equally many."""
    size = x.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(x, k, k + size, 2, axis) for k in range(count)]


def _mixed(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """The product of a matrix, of 1, 0 and -1, and the parts."""
    return [
        functools.reduce(
            jnp.add, [sign * part for sign, part in zip(row, parts, strict=True) if sign]
        )
        for row in matrix.tolist()
    ]


def _joined(parts: list[Array], axis: int) -> Array:
    """The values of the parts in turn along an axis."""
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return jnp.stack(parts, axis + 1).reshape(shape)
