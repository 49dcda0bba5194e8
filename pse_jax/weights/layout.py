"""Arrays of PyTorch and Caffe2 in our layout: kernels HWIO, batch norms folded."""

import difflib
import itertools
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from jaxtyping import Float

from pse_jax.errors import WeightsError
from pse_jax.models.resnet import BLOCKS
from pse_jax.weights.names import Body, Layer, block_names

Arrays = Mapping[str, np.ndarray]
Channels = Float[np.ndarray, " c"]


def convert(
    arrays: Arrays, layers: Iterable[Layer], bn_epsilon: float, source: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(our arrays by path, views where possible; the name in the file of each).

    Raises:
        WeightsError: for an array that is missing, or has the wrong number of axes.
    """
    layers = list(layers)
    need(arrays, [name for layer in layers for name in layer.in_file], source)
    found, names = {}, {}
    for layer in layers:
        values = [arrays[name] for name in layer.in_file]
        if "conv" in layer.kind:
            if values[0].ndim != 4:
                raise WeightsError(
                    f"{source}: {layer.in_file[0]} has shape {values[0].shape}; a convolution's "
                    "kernel has 4 axes"
                )
            values[0] = values[0].transpose(2, 3, 1, 0)
        elif len({value.shape for value in values}) > 1:
            raise WeightsError(f"{source}: {', '.join(layer.in_file)} differ in shape")
        elif layer.kind == "batch norm":
            values = fold_batch_norm(*values, epsilon=bn_epsilon)
        for path, name, value in zip(layer.paths, layer.in_file, values, strict=False):
            found[path], names[path] = np.asarray(value, np.float32), name
    return found, names


def fold_batch_norm(
    weight: Channels, bias: Channels, mean: Channels, variance: Channels, *, epsilon: float
) -> tuple[Channels, Channels]:
    """Scale and bias that do what batch normalisation by fixed statistics does.

    Official FCOS files are folded already; their values stay as they are, to the bit.
    """
    if epsilon == 0 and not mean.any() and (variance == 1).all():
        return weight, bias
    weight, bias, mean, variance = (a.astype(np.float64) for a in (weight, bias, mean, variance))
    scale = weight / np.sqrt(variance + epsilon)
    return scale, bias - mean * scale


def depth_of(names: Collection[str], body: Body, source: str) -> int:
    """The depth of the ResNet that has these blocks.

    Raises:
        WeightsError: for a number or kind of blocks that none of ours has.
    """

    def has(stage: int, block: int, conv: int) -> bool:
        return f"{block_names(body.block, stage, block, conv)[0]}.weight" in names

    def count(stage: int) -> int:
        return next(block for block in itertools.count() if not has(stage, block, 1))

    blocks = tuple(count(stage) for stage in (1, 2, 3, 4))
    bottleneck = has(1, 0, 3)
    for depth, usual in BLOCKS.items():
        if usual == blocks and (depth >= 50) == bottleneck:
            return depth
    kind = "bottleneck" if bottleneck else "basic"
    raise WeightsError(
        f"{source} has {blocks} {kind} blocks in its four stages, unlike ResNet-18, 34, 50 and "
        "101; use one of these, and check that the file is complete"
    )


def need(arrays: Arrays, wanted: Collection[str], source: str) -> None:
    """Raises WeightsError if any of these is missing; names the nearest of the other arrays."""
    missing = [name for name in wanted if name not in arrays]
    if not missing:
        return
    others = arrays.keys() - set(wanted)
    lines = []
    for name in missing[:5]:
        close = difflib.get_close_matches(name, others, n=1, cutoff=0.8)
        lines.append(name + (f" (the nearest name is {close[0]})" if close else ""))
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise WeightsError(f"{source} lacks {', '.join(lines)}{more}; is the file complete?")
