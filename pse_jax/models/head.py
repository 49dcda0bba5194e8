"""The head, shared by all levels: a classification tower and a box tower (FCOS, fig. 2).

Dimensions: b images, p locations, c classes.
"""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pse_jax.config import ModelConfig
from pse_jax.models.layers import Conv, GroupNorm
from pse_jax.points import STRIDES

normal = nn.initializers.normal(0.01)
# e^20 = 5e8 px: beyond that the gradient of the IoU, an area over a squared area, underflows; under
# e^-30 = 1e-13 px the intersection of two boxes does, and the logarithm of the IoU is not finite.
EXPONENTS = (-30.0, 20.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the network says at every location, all levels after one another, in float32."""

    class_logits: Float[Array, "*b p c"]
    distances: Float[Array, "*b p 4"]  # px, left top right bottom; never negative
    quality_logits: Float[Array, "*b p"] | None = None  # centre-ness or IoU; the paper has none


def to_distances(
    scaled: Float[Array, "*n 4"], stride: int, how: Literal["exp", "relu"]
) -> Float[Array, "*n 4"]:
    """Distances in px of what the network says: its exponential (FCOS), or strides (AdelaiDet).

    The exponent is cut to `EXPONENTS`. FCOS does not cut it: one location in the background whose
    exponential overflows makes its gradient 0 x infinity behind a finite loss.
    """
    if how == "exp":
        return jnp.exp(jnp.clip(scaled, *EXPONENTS))
    return nn.relu(scaled) * stride


class Tower(nn.Module):
    """Convolutions with GroupNorm and ReLU.

    Weights before a GroupNorm have no scale of their own: their learning rate goes with one over
    the square of their size. FCOS's deviation of 0.01 suits 256 channels; a narrow tower needs
    unit gain, or its first steps are so large that it turns to noise before it learns.
    """

    channels: int
    convs: int
    groups: int
    init_std: float
    use_bias: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w _"]) -> Float[Array, "b h w _"]:
        kernel_init = nn.initializers.normal(self.init_std)
        for i in range(self.convs):
            x = Conv(
                self.channels,
                3,
                use_bias=self.use_bias,
                kernel_init=kernel_init,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(GroupNorm(self.groups, dtype=self.dtype, name=f"norm{i}")(x))
        return x


class Head(nn.Module):
    """Class logits and distances to the four edges, at every location of every level.

    With `quality` also one logit per location for the quality of its box, on either tower. The
    convolutions that put these out are float32 whatever `dtype` is: with bfloat16's eight bits,
    boxes of some hundred pixels are off by several and most scores are equal to others.
    """

    num_classes: int
    config: ModelConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pyramid: list[Float[Array, "b _ _ _"]]) -> Predictions:
        c = self.config

        def tower(name: str) -> Tower:
            return (nn.remat(Tower) if c.remat else Tower)(
                c.fpn_channels,
                c.head_convs,
                c.head_groups,
                c.head_init_std,
                c.tower_bias,
                self.dtype,
                name=name,
            )

        def output(features: int, name: str, bias: float = 0.0) -> Conv:
            constant = nn.initializers.constant(bias)
            return Conv(features, 3, kernel_init=normal, bias_init=constant, name=name)

        class_tower, box_tower = tower("class_tower"), tower("box_tower")
        class_conv = output(self.num_classes, "class_conv", -math.log((1 - c.prior) / c.prior))
        box_conv = output(4, "box_conv")
        quality_conv = output(1, "quality_conv") if c.quality != "none" else None
        scales = self.param("scales", nn.initializers.ones_init(), (len(pyramid),))

        def flat(level: Float[Array, "b h w c"]) -> Float[Array, "b p c"]:
            return level.reshape(level.shape[0], -1, level.shape[-1])

        logits, distances, quality = [], [], []
        for i, (features, stride) in enumerate(zip(pyramid, STRIDES, strict=True)):
            class_features, box_features = class_tower(features), box_tower(features)
            logits.append(flat(class_conv(class_features)))
            scaled = scales[i] * flat(box_conv(box_features))
            distances.append(to_distances(scaled, stride, c.distances))
            if quality_conv is not None:
                on_class = c.quality_tower == "class"
                quality.append(flat(quality_conv(class_features if on_class else box_features)))
        return Predictions(
            jnp.concatenate(logits, axis=1),
            jnp.concatenate(distances, axis=1),
            jnp.concatenate(quality, axis=1)[..., 0] if quality else None,
        )
