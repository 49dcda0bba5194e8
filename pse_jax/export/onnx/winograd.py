"""3x3 convolutions with fewer multiplications as ONNX nodes: Winograd's F(4x4, 3x3).

The form of `pse_jax.models.winograd`, in operators that onnxruntime has fast kernels of: the tiles
of a channel by a strided convolution of that channel alone, a matrix product for each place in a
tile, and the outputs by a transposed convolution. Eighteen nodes, and no large constant:
onnxruntime transforms the kernels when it loads the file.
"""

import numpy as np

from pse_jax.export.onnx.graph import Graph, Tensor, ints
from pse_jax.models.winograd import F4, by_place

CHANNELS = 256  # below these, the tiles cost what is saved (docs/export.md)
TILE, SEEN = F4.outputs.shape  # px of a side: of a tile's outputs, and of what it sees


def pays(kernel: np.ndarray, stride: int) -> bool:
    """Whether a convolution by this kernel [c2, c, k, k] is faster in this form on a CPU."""
    return kernel.shape[2:] == (3, 3) and stride == 1 and min(kernel.shape[:2]) >= CHANNELS


def kernel_places(graph: Graph, kernel: np.ndarray, name: str) -> Tensor:
    """What each place in a tile multiplies its channels with, [places, c2, c].

    Computed by nodes, of the kernel [c2, c, 3, 3] that the file holds under this name.
    """
    taps = by_place(F4.kernel).reshape(-1, 9).T
    flat = graph("Reshape", graph.constant(kernel, name), ints(-1, 9))
    places = graph("Reshape", graph("MatMul", flat, taps), ints(*kernel.shape[:2], SEEN**2))
    return graph("Transpose", places, perm=[2, 0, 1])


def conv(graph: Graph, x: Tensor, places: Tensor, channels: tuple[int, int]) -> Tensor:
    """The convolution of x [b, c, h, w] at stride 1, padded by one, without its bias.

    Args:
        graph: to add it to.
        x: what is convolved.
        places: of the kernel, by `kernel_places`.
        channels: c2 and c, of the outputs and of x.
    """
    c2, c = channels
    image_hw = graph("Shape", x, start=2)
    planes = graph("Reshape", x, graph("Concat", ints(-1, 1), image_hw, axis=0))
    tiles = graph(
        "Conv", planes, by_place(F4.inputs)[:, None], kernel_shape=[SEEN, SEEN],
        strides=[TILE, TILE], pads=[1, 1, TILE, TILE],  # up to a whole tile below and on the right
    )  # fmt: skip
    tiles_hw = graph("Shape", tiles, start=2)
    count = graph("ReduceProd", tiles_hw, keepdims=1)
    by_image = graph("Concat", ints(-1, c, SEEN**2), count, axis=0)
    tiles = graph("Transpose", graph("Reshape", tiles, by_image), perm=[0, 2, 1, 3])
    found = graph("Transpose", graph("MatMul", places, tiles), perm=[0, 2, 1, 3])
    by_plane = graph("Concat", ints(-1, SEEN**2), tiles_hw, axis=0)
    planes = graph(
        "ConvTranspose", graph("Reshape", found, by_plane), by_place(F4.outputs.T)[:, None],
        kernel_shape=[TILE, TILE], strides=[TILE, TILE],
    )  # fmt: skip
    whole_hw = graph("Shape", planes, start=2)
    whole = graph("Reshape", planes, graph("Concat", ints(-1, c2), whole_hw, axis=0))
    return graph("Slice", whole, ints(0, 0), image_hw, ints(2, 3))
