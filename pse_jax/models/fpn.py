"""The feature pyramid of FCOS: P3 to P5 by the top-down path, P6 and P7 by strided convolutions.

Dimensions: b images, h rows, w columns, c channels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pse_jax.models.layers import Conv


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Nearest neighbour, twice as large; its gradient, a sum over four pixels, is float32."""
    wide = x.astype(jnp.float32)
    return jnp.repeat(jnp.repeat(wide, 2, axis=1), 2, axis=2).astype(x.dtype)


class FPN(nn.Module):
    """C3, C4, C5 to P3..P7 (FCOS, fig. 2; P6 comes from P5, as in FCOS's tables)."""

    channels: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: list[Float[Array, "b _ _ _"]]) -> list[Float[Array, "b _ _ c"]]:
        def conv(kernel: int, stride: int, name: str) -> Conv:
            return Conv(self.channels, kernel, stride, dtype=self.dtype, name=name)

        c3, c4, c5 = features
        merged5 = conv(1, 1, "lateral5")(c5)
        merged4 = conv(1, 1, "lateral4")(c4) + upsample(merged5)
        merged3 = conv(1, 1, "lateral3")(c3) + upsample(merged4)
        p3 = conv(3, 1, "output3")(merged3)
        p4 = conv(3, 1, "output4")(merged4)
        p5 = conv(3, 1, "output5")(merged5)
        p6 = conv(3, 2, "p6")(p5)
        p7 = conv(3, 2, "p7")(nn.relu(p6))
        return [p3, p4, p5, p6, p7]
