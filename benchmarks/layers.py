"""The layers that are our own, each against the library's, forward and backward, in one process.

    python benchmarks/layers.py

Prints medians of alternating runs and their ratio: the ratio is what counts, machines are noisy.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pse_jax.models import by_rows, convolution, space_to_depth, winograd
from pse_jax.models.layers import Conv, GroupNorm, max_pool

REPEATS = 15


def gradient(function: Callable) -> Callable:
    """The jitted gradient of the sum of squares with respect to every argument."""
    return jax.jit(jax.grad(lambda *args: jnp.square(function(*args)).sum(), argnums=(0, 1)))


def stem_gradient(function: Callable) -> Callable:
    """The jitted gradient of a stem by its kernel, from that by its outputs."""

    def pull(x: jax.Array, kernel: jax.Array, slope: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: function(x, kernel), kernel)[1](slope)[0]

    return jax.jit(pull)


def by_library(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The library's stem."""
    return convolution.library(x, kernel, 2)


def medians(ours: Callable, theirs: Callable, *args: Any) -> tuple[float, float]:
    """Median milliseconds of each, run in turn after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(REPEATS + 2):
        for function, list_ in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(function(*args))
            if turn >= 2:
                list_.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Runs all comparisons."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    def group_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
        zeros = jnp.zeros(x.shape[-1])
        return GroupNorm(8).apply({"params": {"scale": scale, "bias": zeros}}, x)  # pyright: ignore

    def flax_group_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
        norm = nn.GroupNorm(8, epsilon=1e-5, use_fast_variance=False)
        return norm.apply({"params": {"scale": scale, "bias": jnp.zeros(x.shape[-1])}}, x)  # pyright: ignore

    def flax_max_pool(x: jax.Array, scale: jax.Array) -> jax.Array:
        return nn.max_pool(x * scale, (3, 3), (2, 2), ((1, 1), (1, 1)))

    def conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layer = Conv(kernel.shape[-1], 1, use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, x)  # pyright: ignore

    def flax_conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layer = nn.Conv(kernel.shape[-1], (1, 1), use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, x)  # pyright: ignore

    def flax_conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layer = nn.Conv(kernel.shape[-1], (3, 3), padding=1, use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, x)  # pyright: ignore

    pixels = random(16, 64, 48, 16)
    cases = [
        ("GroupNorm, 16x64x48x16", group_norm, flax_group_norm, (pixels, random(16))),
        (
            "max-pool, 16x64x48x16",
            lambda x, scale: max_pool(x * scale),
            flax_max_pool,
            (pixels, random(16)),
        ),
        (
            "1x1 conv, 1x50x84, 512 to 1024",
            conv_1x1,
            flax_conv_1x1,
            (random(1, 50, 84, 512), random(1, 1, 512, 1024)),
        ),
    ]
    for side, c in ((80, 64), (40, 128), (40, 256), (20, 256), (10, 512)):
        args = random(2, side, side, c), random(3, 3, c, c)
        cases.append((f"3x3 conv, 2x{side}x{side}x{c}", winograd.product, flax_conv_3x3, args))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, gradients, median ms")
    print(f"{'':<32}{'ours':>8}{'flax':>8}{'flax/ours':>11}")
    for name, ours, theirs, args in cases:
        a, b = medians(gradient(ours), gradient(theirs), *args)
        print(f"{name:<32}{a:>8.1f}{b:>8.1f}{b / a:>11.1f}")
    print("the gradient by the kernel alone")
    small, large = jax.jit(by_rows.kernel_gradient), jax.jit(by_rows.by_library)
    for shape in ((16, 16, 12, 48), (16, 16, 16, 48)):
        a, b = medians(small, large, random(*shape), random(*shape))
        print(f"{'3x3 conv, ' + 'x'.join(map(str, shape)):<32}{a:>8.1f}{b:>8.1f}{b / a:>11.1f}")
    # The stems of shapes_pse and own_small, and one too wide for it.
    for shape, outputs in (((8, 128, 128, 3), 16), ((4, 320, 416, 3), 16), ((2, 320, 416, 3), 32)):
        b, h, w, _ = shape
        args = random(*shape), random(7, 7, 3, outputs), random(b, h // 2, w // 2, outputs)
        both = [stem_gradient(space_to_depth.by_blocks), stem_gradient(by_library)]
        a, b = medians(*both, *args)
        name = f"7x7 conv, {'x'.join(map(str, shape))} to {outputs}"
        print(f"{name:<32}{a:>8.1f}{b:>8.1f}{b / a:>11.1f}")


if __name__ == "__main__":
    main()
