"""Winograd's convolution against sums written out in float64, and where it is used."""

import jax
import jax.export
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


def case(h, w, seed, batch=2, channels=3, outputs=4):
    rng = np.random.default_rng(seed)
    shapes = (batch, h, w, channels), (3, 3, channels, outputs), (batch, h, w, outputs)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@jax.jit
def value_and_gradients(x, kernel, slope):
    value, pull = jax.vjp(winograd.product, x, kernel)
    return value, *pull(slope)


def exact(x, kernel, slope):
    """The same in float64."""
    x, kernel, slope = (a.astype(np.float64) for a in (x, kernel, slope))
    return plain(x, kernel), *plain_gradients(x, kernel, slope)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 6), (2, 2), (3, 4), (7, 5)])
def test_values_and_gradients_of_any_size(h, w):
    arrays = case(h, w, seed=h)
    for got, expected in zip(value_and_gradients(*arrays), exact(*arrays), strict=True):
        np.testing.assert_allclose(got, expected, atol=4e-5)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (4, 9), (6, 7)])
def test_larger_tiles(h, w):
    x, kernel, _ = case(h, w, seed=h)
    got = winograd.convolve(jnp.asarray(x), jnp.asarray(kernel), winograd.F4)
    np.testing.assert_allclose(got, plain(x.astype(np.float64), kernel), atol=2e-4)


def test_error_at_the_width_of_the_heads():
    arrays = case(20, 20, 0, channels=256, outputs=256)
    both = list(zip(value_and_gradients(*arrays), exact(*arrays), strict=True))
    for got, expected in both:
        assert np.abs(got - expected).max() < 1.5e-6 * np.abs(expected).max()
    value = both[0][1]
    larger = winograd.convolve(*map(jnp.asarray, arrays[:2]), winograd.F4)
    assert np.abs(larger - value).max() < 2e-5 * np.abs(value).max()


@pytest.mark.parametrize(("side", "places"), [(40, 16), (64, 36)])
def test_large_images_without_gradients_take_larger_tiles(side, places):
    x = jax.ShapeDtypeStruct((1, side, side, 256), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 256, 256), jnp.float32)
    products = f"f32[{places},{(side // (2 if places == 16 else 4)) ** 2},256]"
    assert products in str(jax.make_jaxpr(winograd.product)(x, kernel))
    loss = lambda *args: winograd.product(*args).sum()  # noqa: E731
    assert "f32[36," not in str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))


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


def test_an_exported_program_takes_any_number_of_images():
    """One program for all platforms, as `python -m pse_jax export` writes."""
    conv = layers.Conv(64, 3)
    x, *_ = case(28, 28, 0, batch=3, channels=64)
    x = jnp.asarray(x)
    variables = conv.init(jax.random.key(0), x)
    some = jax.ShapeDtypeStruct((jax.export.symbolic_shape("b")[0], 28, 28, 64), jnp.float32)
    platforms = ("cpu", "cuda", "tpu")
    function = jax.jit(lambda x: conv.apply(variables, x))
    exported = jax.export.export(function, platforms=platforms)(some)
    np.testing.assert_array_equal(exported.call(x), function(x))
