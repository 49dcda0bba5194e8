"""The stem from blocks of pixels against sums in float64, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax.models import layers, space_to_depth


def exact(x, kernel):
    """Output by output, from the definition: padded by three, every second pixel."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    out = np.zeros((b, (h + 1) // 2, (w + 1) // 2, kernel.shape[3]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            seen = padded[:, 2 * i : 2 * i + 7, 2 * j : 2 * j + 7]
            out[:, i, j] = np.tensordot(seen, kernel, 3)
    return out


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 2), (4, 6), (7, 12), (9, 5)])
def test_values_and_gradients_of_any_size(h, w):
    rng = np.random.default_rng(h)
    x = rng.standard_normal((2, h, w, 3)).astype(np.float32)
    kernel = rng.standard_normal((7, 7, 3, 16)).astype(np.float32)
    value, pull = jax.vjp(jax.jit(space_to_depth.product), x, kernel)
    np.testing.assert_allclose(value, exact(x, kernel), atol=1e-4)
    slope = rng.standard_normal(value.shape).astype(np.float32)
    of_x, of_kernel = pull(slope)
    moved = rng.standard_normal(x.shape), rng.standard_normal(kernel.shape)
    # Linear in each: the slope along a direction is the sum over what that direction gives.
    expected = (exact(moved[0], kernel) * slope).sum(), (exact(x, moved[1]) * slope).sum()
    found = (of_x * moved[0]).sum(), (of_kernel * moved[1]).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "size", "outputs", "stride", "dtype", "used"),
    [
        (3, 7, 16, 2, jnp.float32, True),
        (3, 7, 64, 2, jnp.float32, False),
        (16, 7, 16, 2, jnp.float32, False),
        (3, 3, 16, 2, jnp.float32, False),
        (3, 7, 16, 1, jnp.float32, False),
        (3, 7, 16, 2, jnp.bfloat16, False),
    ],
)
def test_where_it_is_used(inputs, size, outputs, stride, dtype, used):
    conv = layers.Conv(outputs, size, stride, dtype=dtype)
    x = jax.ShapeDtypeStruct((2, 32, 48, inputs), jnp.float32)
    variables = jax.eval_shape(conv.init, jax.random.key(0), x)

    def kernels(platform):
        lowered = jax.jit(conv.apply).trace(variables, x).lower(lowering_platforms=(platform,))
        return f"tensor<4x4x{4 * inputs}x" in lowered.as_text()

    assert kernels("cpu") == used and not kernels("cuda")
