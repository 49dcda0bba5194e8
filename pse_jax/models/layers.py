"""The few layers that everything is built of, with PyTorch's padding and epsilons.

Dimensions: b images, h rows, w columns, c channels.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pse_jax.models import by_rows, convolution, space_to_depth, winograd

# kaiming_uniform(a=1): U(±sqrt(3 / fan_in)), of the ResNet and the pyramid (fcos_core, fpn.py).
kaiming_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
GROUP_EPSILON = 1e-5  # PyTorch's, added to the variance of a group


def product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int
) -> Float[Array, "b h2 w2 c2"]:
    """A convolution, padded symmetrically by half its kernel.

    Flax's "SAME" pads (0, 1) at stride 2; PyTorch, and so every published weight, pads (1, 1).
    """
    if len(kernel) == 1:
        # A matrix product: on CPU a 1x1 convolution's weight gradient takes 6 times as long.
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    if winograd.pays(x, kernel, stride):
        return winograd.product(x, kernel)
    if by_rows.pays(x, kernel, stride):
        return by_rows.product(x, kernel)
    if space_to_depth.pays(x, kernel, stride):
        return space_to_depth.product(x, kernel)
    return convolution.library(x, kernel, stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def mixed_product(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c c2"], stride: int
) -> Float[Array, "b h2 w2 c2"]:
    """`product` of activations in bfloat16 and a float32 kernel, in bfloat16.

    The kernel's gradient is a sum over every location of every image. Differentiation alone would
    round each device's share of it to bfloat16 and add those up in bfloat16; here it is float32
    from the first product to the sum over all devices.
    """
    return product(x, kernel.astype(x.dtype), stride)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return mixed_product(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rounded = kernel.astype(x.dtype)
    (of_x,) = jax.linear_transpose(lambda x: product(x, rounded, stride), x)(slope)
    size, pad = len(kernel), len(kernel) // 2
    if size == 1:
        seen = x[:, ::stride, ::stride]
        of_kernel = jnp.einsum("bhwi,bhwo->io", seen, slope, preferred_element_type=jnp.float32)[
            None, None
        ]
    else:  # images and channels change places: x is correlated with the slope, spread by the stride
        reach = [(n - 1) * stride + 1 for n in slope.shape[1:3]]
        ends = [size - 1 + r - n - pad for r, n in zip(reach, x.shape[1:3], strict=True)]
        of_kernel = jax.lax.conv_general_dilated(
            x,
            slope,
            (1, 1),
            [(pad, end) for end in ends],
            rhs_dilation=(stride, stride),
            dimension_numbers=("CHWN", "IHWO", "HWNC"),
            preferred_element_type=jnp.float32,
        )
    return of_x, of_kernel


mixed_product.defvjp(_forward, _backward)


class Conv(nn.Module):
    """A convolution with `product`'s padding, in the type `dtype`; the bias is added in float32.

    A bias added in bfloat16 would have its gradient summed in bfloat16, over every location: from
    some hundred terms on, such a sum stands still.
    """

    features: int
    kernel: int
    stride: int = 1
    use_bias: bool = True
    kernel_init: Callable = kaiming_uniform
    bias_init: Callable = nn.initializers.zeros_init()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        size = self.kernel
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        multiply = product if jnp.dtype(self.dtype) == jnp.float32 else mixed_product
        x = multiply(x.astype(self.dtype), kernel, self.stride)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            x = (x.astype(jnp.float32) + bias).astype(self.dtype)
        return x


class FrozenBatchNorm(nn.Module):
    """Batch normalisation folded to scale·x + bias; in the collection `frozen`, never trained.

    In float32: a scale rounded to bfloat16 is wrong the same way in every pixel.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        scale = self.variable("frozen", "scale", jnp.ones, x.shape[-1:]).value
        bias = self.variable("frozen", "bias", jnp.zeros, x.shape[-1:]).value
        return (x.astype(jnp.float32) * scale + bias).astype(self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation with PyTorch's epsilon and the two-pass variance, in float32.

    Sums over a group go by way of sums over each channel, which the compiler vectorises; flax's
    reshape to groups is slower on CPU (benchmarks/layers.py).
    """

    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        c = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (c,))
        bias = self.param("bias", nn.initializers.zeros_init(), (c,))
        return _group_norm(x.astype(jnp.float32), scale, bias, self.groups).astype(self.dtype)


@partial(jax.jit, static_argnums=3)  # traced once a shape, which saves seconds
def _group_norm(x: Array, scale: Array, bias: Array, groups: int) -> Float[Array, "b h w c"]:
    b, h, w, c = x.shape

    def group_mean(per_pixel: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
        per_channel = per_pixel.sum(axis=(1, 2)) / (h * w)
        per_group = per_channel.reshape(b, groups, -1).mean(axis=-1)
        return jnp.repeat(per_group, c // groups, axis=-1)[:, None, None, :]

    centred = x - group_mean(x)
    factor = jax.lax.rsqrt(group_mean(jnp.square(centred)) + GROUP_EPSILON) * scale
    return centred * factor + bias


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """3x3 max-pooling at stride 2, padded by one, as in the stem of a ResNet.

    As maxima of slices: the gradient of the built-in pooling, select-and-scatter, takes many times
    as long on CPU (benchmarks/layers.py).
    """

    def along(axis: int, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        count = (x.shape[axis] - 1) // 2 + 1
        padding = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        x = jnp.pad(x, padding, constant_values=-jnp.inf)
        slices = [jax.lax.slice_in_dim(x, i, i + 2 * count - 1, 2, axis) for i in range(3)]
        return jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])

    return along(2, along(1, x))
