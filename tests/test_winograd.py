"""Winograd's convolution against sums written out in float64, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax.models import layers, winograd


def plain(x, kernel):
    """The convolution, padded by one: nine products of shifted images."""
    h, w = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(x[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))


def plain_gradients(x, kernel, slope):
    """Of sum(slope · plain(x, kernel)), each product's share by itself."""
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    of_x, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(3):
        for j in range(3):
            of_x[:, i : i + h, j : j + w] += slope @ kernel[i, j].T
            seen = padded[:, i : i + h, j : j + w]
            of_kernel[i, j] = np.einsum("bhwi,bhwo->io", seen, slope)
    return of_x[:, 1:-1, 1:-1], of_kernel


@jax.jit
def value_and_gradients(x, kernel, slope):
    value, pull = jax.vjp(winograd.product, x, kernel)
    return value, *pull(slope)


def case(h, w, seed, batch=2, channels=3, outputs=4):
    rng = np.random.default_rng(seed)
    shapes = (batch, h, w, channels), (3, 3, channels, outputs), (batch, h, w, outputs)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 6), (2, 2), (3, 4), (7, 5)])
def test_values_and_gradients_of_any_size(h, w):
    x, kernel, slope = case(h, w, seed=h)
    exact = [a.astype(np.float64) for a in (x, kernel, slope)]
    value, *gradients = value_and_gradients(x, kernel, slope)
    np.testing.assert_allclose(value, plain(*exact[:2]), atol=2e-5)
    for got, expected in zip(gradients, plain_gradients(*exact), strict=True):
        np.testing.assert_allclose(got, expected, atol=4e-5)


def test_error_at_the_width_of_the_heads():
    x, kernel, slope = case(20, 20, 0, channels=256, outputs=256)
    exact = [a.astype(np.float64) for a in (x, kernel, slope)]
    for got, expected in zip(
        value_and_gradients(x, kernel, slope),
        (plain(*exact[:2]), *plain_gradients(*exact)),
        strict=True,
    ):
        assert np.abs(got - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("shape", "size", "outputs", "stride", "dtype", "used"),
    [
        ((1, 20, 20, 128), 3, 128, 1, jnp.float32, True),
        ((2, 80, 80, 64), 3, 80, 1, jnp.float32, True),
        ((1, 10, 10, 128), 3, 128, 1, jnp.float32, False),  # too few values
        ((1, 80, 80, 256), 3, 4, 1, jnp.float32, False),  # too few outputs
        ((1, 20, 20, 128), 3, 128, 2, jnp.float32, False),
        ((1, 20, 20, 128), 1, 128, 1, jnp.float32, False),
        ((1, 20, 20, 128), 3, 128, 1, jnp.bfloat16, False),
    ],
)
def test_where_it_is_used(shape, size, outputs, stride, dtype, used):
    conv = layers.Conv(outputs, size, stride, dtype=dtype)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(conv.init, jax.random.key(0), x)

    def convolutions(platform):
        lowered = jax.jit(conv.apply).trace(variables, x).lower(lowering_platforms=(platform,))
        return lowered.as_text().count("stablehlo.convolution")

    assert convolutions("cpu") == int(not used and size > 1)
    assert convolutions("cuda") == int(size > 1)  # its library does this by itself
