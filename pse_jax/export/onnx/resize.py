"""The image's way to the canvas as ONNX nodes, equal to `detector.prepare` to the bit.

Sizes and weights are computed in the graph, in double precision, from the size of the images given.
"""

import dataclasses

import numpy as np

from pse_jax.config import DataConfig
from pse_jax.data.padding import Canvases, canvas_sides, order
from pse_jax.data.transforms import ANTIALIASED
from pse_jax.export.onnx.graph import DOUBLE, INT64, UINT8, Graph, Tensor, ints

BLOCK = 16  # pixels of the result that one matrix product makes
PRECISION = 2.0**22  # Pillow's weights are whole multiples of 2^-22 (Resample.c, PRECISION_BITS)

half = np.float64(0.5)


def resized_hw(g: Graph, hw: Tensor, data: DataConfig) -> Tensor:
    """`transforms.resized_hw` of the size [height, width], int64."""
    exact = g("Cast", hw, to=DOUBLE)
    short, long = (g(f"Reduce{kind}", exact, keepdims=1) for kind in ("Min", "Max"))
    short_side, long_side = np.float64(data.short_side), np.float64(data.long_side)
    if data.resize != "fcos":
        scale = g("Min", g("Div", short_side, short), g("Div", long_side, long))
        scaled = g("Mul", exact, scale)
        if data.resize != "torchvision":
            scaled = g("Add", scaled, half)
        return g("Cast", g("Max", g("Floor", scaled), np.float64(1)), to=INT64)
    too_long = g("Greater", g("Mul", g("Div", long, short), short_side), long_side)
    cut = g("Round", g("Div", g("Mul", long_side, short), long))  # half to even, as Python
    size = g("Where", too_long, cut, short_side)
    other = g("Floor", g("Div", g("Mul", size, long), short))
    nothing = g("Less", size, np.float64(1))
    other = g("Where", nothing, long_side, other)
    size = g("Max", size, np.float64(1))
    return g("Cast", g("Where", g("Equal", exact, short), size, other), to=INT64)


def canvas_hw(g: Graph, hw: Tensor, data: DataConfig, trained: Canvases = ()) -> Tensor:
    """`padding.canvas_hw` of the resized size, int64."""
    sides = ints(*canvas_sides(max(data.short_side, data.long_side)))
    small = g("Less", sides, g("Unsqueeze", hw, ints(1)))
    count = g("ReduceSum", g("Cast", small, to=INT64), ints(1), keepdims=0)
    canvas = g("Gather", sides, count)
    for one in sorted(trained, key=order, reverse=True):  # the smallest that holds it comes last
        inside = g("Cast", g("LessOrEqual", hw, ints(*one)), to=INT64)
        fits = g("Equal", g("ReduceMin", inside, keepdims=1), ints(1))
        canvas = g("Where", fits, ints(*one), canvas)
    return canvas


def resize(g: Graph, images: Tensor, from_hw: Tensor, to_hw: Tensor, rule: str) -> Tensor:
    """`transforms.resize`: uint8 [b, h, w, 3] to uint8 [b, 3, h2, w2]. Rows first, then columns.

    Dimensions: t blocks of `BLOCK` pixels of the result, each of which reads r pixels.
    """
    from_h, from_w = g.several("Split", 2, from_hw, axis=0, num_outputs=2)
    to_h, to_w = g.several("Split", 2, to_hw, axis=0, num_outputs=2)
    antialias = rule in ANTIALIASED
    wide = _rows(g, images, _band(g, from_w, to_w, antialias), from_h, to_w)
    resized = _columns(g, wide, _band(g, from_h, to_h, antialias), to_h, to_w)
    return g("Transpose", resized, perm=[0, 3, 1, 2])


@dataclasses.dataclass(frozen=True)
class _Band:
    """The weights by which one axis is resized. Most of a matrix of them would be zero."""

    weights: Tensor  # double [t, BLOCK, r]
    sources: Tensor  # int64 [t, r], the pixels that are read
    reach: Tensor  # int64 [1]: r
    length: Tensor  # int64 [1]: t * BLOCK, a little more than the size


def _range(g: Graph, count: Tensor) -> Tensor:
    """0, 1, ... count - 1; `count` is int64 [1]."""
    return g("Range", np.int64(0), g("Squeeze", count), np.int64(1))


def _band(g: Graph, size: Tensor, to_size: Tensor, antialias: bool) -> _Band:
    """Pillow's bilinear filter from `size` to `to_size` pixels, both int64 [1] (Resample.c).

    Every pixel of the result mixes those under a triangle around it.
    """
    scale = g("Div", g("Cast", size, to=DOUBLE), g("Cast", to_size, to=DOUBLE))
    one = np.ones(1)
    support = g("Max", scale, one) if antialias else g.constant(one)  # px to each side
    blocks = g("Div", g("Add", to_size, ints(BLOCK - 1)), ints(BLOCK))
    firsts = g("Mul", _range(g, blocks), np.int64(BLOCK))
    targets = g("Add", g("Unsqueeze", firsts, ints(1)), np.arange(BLOCK))
    targets = g("Min", targets, g("Sub", to_size, ints(1)))  # past the end: the last one again
    centres = g("Mul", g("Add", g("Cast", targets, to=DOUBLE), half), scale)  # [t, BLOCK]

    width = g("Add", g("Mul", scale, np.float64(BLOCK - 1)), g("Add", support, support))
    reach = g("Min", g("Add", g("Cast", width, to=INT64), ints(3)), size)
    start = g("Sub", g("Gather", centres, ints(0), axis=1), g("Sub", support, half))
    start = g("Max", g("Cast", g("Floor", start), to=INT64), ints(0))
    start = g("Min", start, g("Sub", size, reach))
    sources = g("Add", start, _range(g, reach))  # [t, r]

    offsets = g(
        "Sub", g("Unsqueeze", g("Cast", sources, to=DOUBLE), ints(1)),
        g("Unsqueeze", centres, ints(2)),
    )  # fmt: skip
    nearness = g("Abs", g("Div", g("Add", offsets, half), support))
    weights = g("Max", g("Sub", np.float64(1), nearness), np.float64(0))
    weights = g("Div", weights, g("ReduceSum", weights, ints(2)))
    rounded = g("Floor", g("Add", g("Mul", weights, np.float64(PRECISION)), half))
    weights = g("Mul", rounded, np.float64(1 / PRECISION))  # [t, BLOCK, r]
    return _Band(weights, sources, reach, g("Mul", blocks, ints(BLOCK)))


def _mixed(g: Graph, a: Tensor, b: Tensor) -> Tensor:
    """The product, rounded to uint8. Its sums are exact: whole multiples of 2^-22."""
    return g("Cast", g("Floor", g("Add", g("MatMul", a, b), half)), to=UINT8)


def _rows(g: Graph, x: Tensor, band: _Band, height: Tensor, to_width: Tensor) -> Tensor:
    """Resizes the rows of uint8 [b, h, w, 3].

    A pixel's three channels stay side by side, each with a weight for itself and none for the
    others: that is faster than to take the image's channels apart.
    """
    read = g("Gather", x, band.sources, axis=2)  # [b, h, t, r, 3]
    read = g("Transpose", read, perm=[2, 0, 1, 3, 4])
    triple = g("Mul", band.reach, ints(3))
    blocks = g("Shape", band.sources, end=1)
    read = g("Reshape", read, g("Concat", blocks, ints(-1), triple, axis=0))  # [t, b·h, 3r]
    weights = g("Transpose", band.weights, perm=[0, 2, 1])
    weights = g("Unsqueeze", weights, ints(2, 4))  # [t, r, 1, BLOCK, 1]
    weights = g("Mul", weights, np.eye(3)[:, None, :])  # [t, r, 3, BLOCK, 3]
    weights = g("Reshape", weights, g("Concat", ints(0), triple, ints(3 * BLOCK), axis=0))
    mixed = _mixed(g, g("Cast", read, to=DOUBLE), weights)  # [t, b·h, 3·BLOCK]
    mixed = g("Transpose", mixed, perm=[1, 0, 2])
    mixed = g("Reshape", mixed, g("Concat", ints(-1), height, band.length, ints(3), axis=0))
    return g("Slice", mixed, ints(0), to_width, ints(2))


def _columns(g: Graph, x: Tensor, band: _Band, to_height: Tensor, width: Tensor) -> Tensor:
    """Resizes the columns of uint8 [b, h, w, 3]."""
    read = g("Gather", x, band.sources, axis=1)  # [b, t, r, w, 3]
    read = g("Cast", g("Reshape", read, ints(0, 0, 0, -1)), to=DOUBLE)
    mixed = _mixed(g, band.weights, read)  # [b, t, BLOCK, 3w]
    mixed = g("Reshape", mixed, g("Concat", ints(0), band.length, width, ints(3), axis=0))
    return g("Slice", mixed, ints(0), to_height, ints(1))
