"""The image's way to the canvas as ONNX nodes, equal to `detector.prepare` to the bit.

Sizes and weights are computed in the graph, in double precision, from the size of the images given.
"""

import numpy as np

from pse_jax.config import DataConfig
from pse_jax.data.transforms import ANTIALIASED
from pse_jax.detector import CANVAS_STEPS
from pse_jax.export.onnx.graph import DOUBLE, INT64, UINT8, Graph, Tensor, ints
from pse_jax.points import ALIGNMENT

BLOCK = 64  # pixels of the result that one matrix product makes
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


def canvas_hw(g: Graph, hw: Tensor, data: DataConfig) -> Tensor:
    """`detector.canvas_hw` of the resized size, int64."""
    longest = max(data.short_side, data.long_side)
    steps = np.array([longest * k / CANVAS_STEPS for k in range(1, CANVAS_STEPS + 1)])
    sides = (np.ceil(steps / ALIGNMENT) * ALIGNMENT).astype(np.int64)
    over = g("Greater", g("Unsqueeze", g("Cast", hw, to=DOUBLE), ints(1)), steps)
    count = g("ReduceSum", g("Cast", over, to=INT64), ints(1), keepdims=0)  # steps too small
    fits = g("Gather", sides, g("Min", count, ints(CANVAS_STEPS - 1)))
    aligned = g(
        "Mul", g("Div", g("Add", hw, ints(ALIGNMENT - 1)), ints(ALIGNMENT)), ints(ALIGNMENT)
    )
    return g("Where", g("Equal", count, ints(CANVAS_STEPS)), aligned, fits)


def resize(g: Graph, images: Tensor, from_hw: Tensor, to_hw: Tensor, rule: str) -> Tensor:
    """`transforms.resize`: uint8 [b, h, w, 3] to uint8 [b, 3, h2, w2]. Rows first, then columns."""
    from_h, from_w = g.several("Split", 2, from_hw, axis=0, num_outputs=2)
    to_h, to_w = g.several("Split", 2, to_hw, axis=0, num_outputs=2)
    antialias = rule in ANTIALIASED
    columns = g("Transpose", images, perm=[0, 3, 2, 1])  # [b, 3, w, h]
    rows = g("Transpose", _along(g, columns, from_w, to_w, antialias), perm=[0, 1, 3, 2])
    return _along(g, rows, from_h, to_h, antialias)


def _range(g: Graph, count: Tensor) -> Tensor:
    """0, 1, ... count - 1; `count` is int64 [1]."""
    return g("Range", np.int64(0), g("Squeeze", count), np.int64(1))


def _along(g: Graph, x: Tensor, size: Tensor, to_size: Tensor, antialias: bool) -> Tensor:
    """Pillow's bilinear filter along axis 2 of uint8 [b, 3, size, m] (Resample.c).

    Every pixel of the result mixes those under a triangle around it, so the matrix of weights is a
    band. It is cut into blocks of `BLOCK` results, each of which reads `reach` pixels.
    """
    scale = g("Div", g("Cast", size, to=DOUBLE), g("Cast", to_size, to=DOUBLE))
    one = np.ones(1)
    support = g("Max", scale, one) if antialias else g.constant(one)  # px to each side
    blocks = g("Div", g("Add", to_size, ints(BLOCK - 1)), ints(BLOCK))
    firsts = g("Mul", _range(g, blocks), np.int64(BLOCK))
    targets = g("Add", g("Unsqueeze", firsts, ints(1)), np.arange(BLOCK))
    targets = g("Min", targets, g("Sub", to_size, ints(1)))  # past the end: the last one again
    centres = g("Mul", g("Add", g("Cast", targets, to=DOUBLE), half), scale)  # [blocks, BLOCK]

    width = g("Add", g("Mul", scale, np.float64(BLOCK - 1)), g("Add", support, support))
    reach = g("Min", g("Add", g("Cast", width, to=INT64), ints(3)), size)
    start = g("Sub", g("Gather", centres, ints(0), axis=1), g("Sub", support, half))
    start = g("Max", g("Cast", g("Floor", start), to=INT64), ints(0))
    start = g("Min", start, g("Sub", size, reach))
    sources = g("Add", start, _range(g, reach))  # [blocks, reach]

    offsets = g(
        "Sub", g("Unsqueeze", g("Cast", sources, to=DOUBLE), ints(1)),
        g("Unsqueeze", centres, ints(2)),
    )  # fmt: skip
    nearness = g("Abs", g("Div", g("Add", offsets, half), support))
    weights = g("Max", g("Sub", np.float64(1), nearness), np.float64(0))
    weights = g("Div", weights, g("ReduceSum", weights, ints(2)))
    rounded = g("Floor", g("Add", g("Mul", weights, np.float64(PRECISION)), half))
    weights = g("Mul", rounded, np.float64(1 / PRECISION))  # [blocks, BLOCK, reach]

    read = g("Cast", g("Gather", x, sources, axis=2), to=DOUBLE)  # [b, 3, blocks, reach, m]
    mixed = g("Floor", g("Add", g("MatMul", weights, read), half))  # exact sums: multiples of 2^-22
    length = g("Mul", blocks, ints(BLOCK))
    shape = g("Concat", ints(0, 0), length, ints(-1), axis=0)
    mixed = g("Reshape", g("Cast", mixed, to=UINT8), shape)
    return g("Slice", mixed, ints(0), to_size, ints(2))
