"""The detector: pixels in, `Predictions` out, as a pure function of its variables.

`variables` is {"params": ..., "frozen": ...}: plain nested dictionaries, the second holding the
folded batch-norm values (absent with GroupNorm). Nothing is mutable.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from pse_jax.config import ModelConfig
from pse_jax.models.fpn import FPN
from pse_jax.models.head import Head, Predictions
from pse_jax.models.resnet import ResNet, frozen_modules

Variables = dict[str, Any]


class FCOS(nn.Module):
    """ResNet, feature pyramid and shared head."""

    config: ModelConfig
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Predictions:
        backbone = ResNet(self.config, self.dtype, name="backbone")
        fpn = FPN(self.config.fpn_channels, self.dtype, name="fpn")
        head = Head(self.num_classes, self.config, self.dtype, name="head")
        return head(fpn(backbone(images)))


def create(config: ModelConfig, num_classes: int) -> FCOS:
    """The module, with its compute type settled for the devices at hand."""
    on_cpu = jax.default_backend() == "cpu"
    dtype = ("float32" if on_cpu else "bfloat16") if config.dtype == "auto" else config.dtype
    return FCOS(config, num_classes, jnp.dtype(dtype).type)


def init(model: FCOS, key: Array) -> Variables:
    """Fresh variables, float32, initialised as in FCOS."""
    return dict(model.init(key, jnp.zeros((1, 64, 64, 3), jnp.float32)))


def is_frozen(path: tuple[str, ...], config: ModelConfig) -> bool:
    """Whether the parameter at this path (`("backbone", "stem", ...)`) is never trained."""
    return path[0] == "backbone" and path[1] in frozen_modules(config.frozen_stages)


def count_parameters(params: dict[str, Any], config: ModelConfig) -> tuple[int, int]:
    """(all, trainable) parameters. Folded batch-norm values are no parameters."""
    total = trainable = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        size = int(np.prod(leaf.shape))
        total += size
        trainable += 0 if is_frozen(tuple(key.key for key in path), config) else size
    return total, trainable


def preprocess(
    images: UInt8[Array, "b h w 3"], sizes_hw: Int[Array, "b 2"], config: ModelConfig
) -> Float[Array, "b h w 3"]:
    """RGB bytes to what the network sees; what lies outside an image's (height, width) becomes 0.

    The padding is zero after the mean is subtracted, as in FCOS's image_list.py.
    """
    pixels = images.astype(jnp.float32)
    if config.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    mean, std = jnp.asarray(config.pixel_mean), jnp.asarray(config.pixel_std)
    pixels = (pixels - mean) / std
    rows = jnp.arange(images.shape[1])[None, :] < sizes_hw[:, :1]  # [b, h]
    columns = jnp.arange(images.shape[2])[None, :] < sizes_hw[:, 1:]  # [b, w]
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, pixels, 0.0)
