"""Published ResNets, and what each kind expects of the model.

Detectron's and detectron2's R-50.pkl are MSRA's ResNets under Caffe2's names, the first with its
batch norms folded, the second with their statistics. torchvision and timm share their names.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from pse_jax.errors import WeightsError
from pse_jax.weights.layout import Arrays, convert, depth_of
from pse_jax.weights.names import CAFFE_RESNET, TORCH_RESNET, resnet_layers
from pse_jax.weights.presets import DETECTRON2_MEAN, DETECTRON_MEAN, IMAGENET_MEAN, IMAGENET_STD

_CAFFE = {"stride_in_1x1": True, "channel_order": "bgr", "pixel_std": (1.0, 1.0, 1.0)}
EXPECTS: dict[str, dict[str, Any]] = {  # fields of ModelConfig
    "detectron": {**_CAFFE, "pixel_mean": DETECTRON_MEAN},
    "detectron2": {**_CAFFE, "pixel_mean": DETECTRON2_MEAN},
    "torchvision": {
        "stride_in_1x1": False,
        "channel_order": "rgb",
        "pixel_mean": IMAGENET_MEAN,
        "pixel_std": IMAGENET_STD,
    },
}
EPSILON = 1e-5  # of PyTorch's and Caffe's batch norms


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A ResNet in our layout."""

    kind: str  # a key of EXPECTS
    depth: int
    found: dict[str, np.ndarray]  # "params/backbone/stem/conv1/kernel" -> array
    names_in_file: dict[str, str]  # for each path of `found`
    unused: list[str]  # the classifier, counters, biases that folded norms replace


def kind_of(names: Iterable[str]) -> str | None:
    """The key of `EXPECTS` whose names these are, or None if they are not a ResNet's."""
    names = set(names)
    if names & {"conv1_w", "res2_0_branch2a_w"}:
        with_statistics = any(".running_" in _standard(name) for name in names)
        return "detectron2" if with_statistics else "detectron"
    return "torchvision" if "layer1.0.conv1.weight" in names else None


def translate(arrays: Arrays, kind: str, source: str) -> Backbone:
    """The arrays of a file under our names.

    Raises:
        WeightsError: unless it is a plain ResNet, complete, with 10, 18, 34, 50 or 101 layers.
    """
    originals = {_standard(name): name for name in arrays}
    body = TORCH_RESNET if kind == "torchvision" else CAFFE_RESNET
    norm = "folded norm" if kind == "detectron" else "batch norm"
    depth = depth_of(originals, body, source)
    layers = list(resnet_layers(body, depth, norm))
    unused = sorted(originals.keys() - {name for layer in layers for name in layer.in_file})
    for name in unused:
        extra_layer = name.startswith(("layer", "conv1.", "bn1.", "stem.")) or "_gn_" in name
        if extra_layer and not name.endswith("num_batches_tracked"):
            raise WeightsError(
                f"{source} is not a plain ResNet: it has {originals[name]}. Variants with deep "
                "stems, pooled shortcuts (resnet50d), attention or other norms are not supported; "
                "use a resnet18, 34, 50 or 101"
            )
    standard = {name: arrays[original] for name, original in originals.items()}
    found, names = convert(standard, layers, EPSILON, source)
    names = {path: originals[name] for path, name in names.items()}
    return Backbone(kind, depth, found, names, [originals[name] for name in unused])


def expects(kind: str, depth: int) -> dict[str, Any]:
    """Fields of ModelConfig with which alone these weights mean what they meant in training."""
    fields = {"depth": depth, "norm": "frozen_bn", **EXPECTS[kind]}
    if depth < 50:
        del fields["stride_in_1x1"]  # basic blocks have no 1x1 convolutions
    return fields


_CAFFE_LEAVES = {  # every spelling that detectron2 reads (c2_model_loading.py); riv: the variance
    "s": "weight", "gamma": "weight", "b": "bias", "bias": "bias", "beta": "bias",
    "rm": "running_mean", "running_mean": "running_mean",
    "riv": "running_var", "running_var": "running_var",
}  # fmt: skip


def _standard(name: str) -> str:
    """`res2_0_branch2a_bn.weight` for Caffe2's `res2_0_branch2a_bn_s`; other names as they are."""
    match = re.fullmatch(r"(?:res_)?((?:conv1|res\d+_\d+_branch\w+?)(?:_bn)?)_([a-z_]+)", name)
    if not match:
        return name
    module, leaf = match.groups()
    if not module.endswith("_bn"):
        return f"{module}.weight" if leaf == "w" else name
    return f"{module}.{_CAFFE_LEAVES[leaf]}" if leaf in _CAFFE_LEAVES else name
