"""The backbone: a ResNet (He et al.), with stages named as PyTorch names them.

Dimensions: b images, h rows, w columns, c channels.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pse_jax.config import ModelConfig
from pse_jax.models.layers import Conv, FrozenBatchNorm, GroupNorm, max_pool

BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


def frozen_modules(frozen_stages: int) -> tuple[str, ...]:
    """Names of the backbone's modules that are not trained: the stem first, then its stages."""
    return ("stem", "layer1", "layer2", "layer3", "layer4")[:frozen_stages]


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 when it is a bottleneck."""

    width: int
    stride: int
    bottleneck: bool
    stride_in_1x1: bool
    norm: partial
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        features = self.width * (4 if self.bottleneck else 1)
        first, middle = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)

        shortcut = x
        if self.stride != 1 or x.shape[-1] != features:
            shortcut = conv(features, 1, self.stride, name="downsample")(x)
            shortcut = self.norm(name="downsample_norm")(shortcut)

        if self.bottleneck:
            x = nn.relu(self.norm(name="norm1")(conv(self.width, 1, first, name="conv1")(x)))
            x = nn.relu(self.norm(name="norm2")(conv(self.width, 3, middle, name="conv2")(x)))
            x = self.norm(name="norm3")(conv(features, 1, name="conv3")(x))
        else:
            x = nn.relu(self.norm(name="norm1")(conv(features, 3, self.stride, name="conv1")(x)))
            x = self.norm(name="norm2")(conv(features, 3, name="conv2")(x))
        return nn.relu(x + shortcut)


class Stem(nn.Module):
    """7x7 convolution at stride 2, then 3x3 max-pooling at stride 2."""

    width: int
    norm: partial
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        x = Conv(self.width, 7, 2, use_bias=False, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(self.norm(name="norm1")(x))
        return max_pool(x)


class Stage(nn.Module):
    """Blocks of one resolution; the first one may halve it."""

    block: Callable[..., nn.Module]  # of (width, stride, name)
    count: int
    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        for i in range(self.count):
            x = self.block(self.width, self.stride if i == 0 else 1, name=f"block{i}")(x)
        return x


class ResNet(nn.Module):
    """Returns C3, C4 and C5, at strides 8, 16 and 32."""

    config: ModelConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        c = self.config
        if c.norm == "frozen_bn":
            norm = partial(FrozenBatchNorm, dtype=self.dtype)
        else:
            norm = partial(GroupNorm, groups=c.norm_groups, dtype=self.dtype)
        block = partial(
            nn.remat(Block) if c.remat else Block,
            bottleneck=c.depth >= 50,
            stride_in_1x1=c.stride_in_1x1,
            norm=norm,
            dtype=self.dtype,
        )
        modules: list[nn.Module] = [Stem(c.width, norm, self.dtype, name="stem")]
        for i, count in enumerate(BLOCKS[c.depth]):
            stride = 1 if i == 0 else 2
            modules.append(Stage(block, count, c.width * 2**i, stride, name=f"layer{i + 1}"))
        outputs = []
        for module in modules:
            x = module(x)
            if module.name in frozen_modules(c.frozen_stages):
                x = jax.lax.stop_gradient(x)  # XLA then drops the backward pass of what is frozen
            outputs.append(x)
        return outputs[2:]
