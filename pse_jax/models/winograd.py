"""3x3 convolutions with fewer multiplications, for CPUs: Winograd's F(n x n, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), sec. 4: a tile of n x n
outputs is Y = A'[(G g G') * (B' d B)]A, of the t x t pixels d that it sees, t = n + 2, and the
kernel g. Their product takes t² multiplications for each pair of channels, not 9n²: 16 and not 36,
or 36 and not 144. Summed over channels it is t² plain matrix products, one for each place in a
tile. Both gradients have the same form. Dimensions: b images, h rows, w columns, c channels.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pse_jax.models.convolution import is_plain, library


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """The matrices of F(n x n, 3x3)."""

    inputs: np.ndarray  # B', t x t
    kernel: np.ndarray  # G, t x 3
    outputs: np.ndarray  # A', n x t


def by_place(matrix: np.ndarray) -> Float[np.ndarray, "p k k"]:
    """What M x M' takes of each value of x [k, k], a plane for each of its places.

    The places of a tile are counted column by column, as in _tiles.
    """
    taken = np.einsum("ik,jl->jikl", matrix, matrix)
    return taken.reshape(-1, *taken.shape[2:]).astype(np.float32)


F2 = Form(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)
F4 = Form(  # four times as inexact as the library's convolution, by the mean square
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
)
CHANNELS, VALUES = 64, 50_000  # of an image: below these, the additions cost what is saved
MANY_VALUES = 1_000_000  # of an image: from here on F4, where no gradient is asked for


def pays(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int) -> bool:
    """Whether this is faster on a CPU, by the shape (benchmarks/layers.py): 3x3, many channels."""
    _, h, w, c = x.shape
    large = min(kernel.shape[2:]) >= CHANNELS and h * w * c >= VALUES
    return large and is_plain(x, kernel, stride)


@jax.custom_vjp
def product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c c2"]
) -> Float[Array, "b h w c2"]:
    """`convolve` on a CPU, and elsewhere the library's convolution, which knows this by itself."""
    form = F4 if math.prod(x.shape[1:]) >= MANY_VALUES else F2
    ours = functools.partial(convolve, form=form)
    return jax.lax.platform_dependent(x, kernel, cpu=ours, default=library)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    y = jax.lax.platform_dependent(x, kernel, cpu=convolve, default=library)
    return y, (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    def on_cpu(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)  # by half, and its channels exchanged
        return convolve(slope, turned), kernel_gradient(x, slope)

    def elsewhere(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
        return jax.vjp(library, x, kernel)[1](slope)

    return jax.lax.platform_dependent(*saved, slope, cpu=on_cpu, default=elsewhere)


product.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnames="form")  # traced once a shape, which saves seconds
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c c2"], form: Form = F2
) -> Float[Array, "b h w c2"]:
    """The convolution at stride 1, padded by one, float32.

    Within 1e-6 of the largest value by F2, 2e-5 by F4.
    """
    b, h, w, _ = x.shape
    n, t = form.outputs.shape
    places = _of_inputs(x, form) @ jnp.tensordot(by_place(form.kernel), kernel, 2)
    m = places.reshape(t, t, b, -(h // -n), -(w // -n), -1)
    rows = [_joined(_mixed(form.outputs, list(m[:, i])), axis=2) for i in range(t)]
    return _joined(_mixed(form.outputs, rows), axis=1)[:, :h, :w]


@jax.jit
def kernel_gradient(
    x: Float[Array, "b h w c"], slope: Float[Array, "b h w c2"]
) -> Float[Array, "3 3 c c2"]:
    """The gradient by the kernel, of the gradient `slope` by the convolution's outputs."""
    _, h, w, _ = slope.shape
    slope = jnp.pad(slope, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    places = _of_inputs(x, F2).swapaxes(1, 2) @ _tiles(F2.outputs.T, slope, 2)
    return jnp.tensordot(by_place(F2.kernel), places, (0, 0))


def _of_inputs(x: Float[Array, "b h w c"], form: Form) -> Float[Array, "p tiles c"]:
    """B' d B of every tile: n pixels apart, overlapping by two."""
    _, h, w, _ = x.shape
    n = len(form.outputs)
    return _tiles(form.inputs, jnp.pad(x, ((0, 0), (1, 1 + -h % n), (1, 1 + -w % n), (0, 0))), n)


def _tiles(matrix: np.ndarray, x: Float[Array, "b h w c"], n: int) -> Float[Array, "p tiles c"]:
    """M d M' of every tile d of x, n pixels apart; a tile is as large as the matrix M takes."""
    rows = jnp.stack(_mixed(matrix, _steps(x, 1, matrix.shape[1], n)))
    places = jnp.stack(_mixed(matrix, _steps(rows, 3, matrix.shape[1], n)))
    return places.reshape(len(matrix) ** 2, -1, x.shape[-1])


def _steps(x: Array, axis: int, count: int, n: int) -> list[Array]:
    """Every n-th value along an axis, from the first, the second and so on: equally many."""
    size = x.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(x, k, k + size, n, axis) for k in range(count)]


def _mixed(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """The product of a matrix and the parts."""
    return [
        functools.reduce(jnp.add, [by * part for by, part in zip(row, parts, strict=True) if by])
        for row in matrix.tolist()
    ]


def _joined(parts: list[Array], axis: int) -> Array:
    """The values of the parts in turn along an axis."""
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return jnp.stack(parts, axis + 1).reshape(shape)
