"""The kernel gradient as three products against sums in float64, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax.models import by_rows, layers
from tests.test_winograd import case, exact


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 6), (2, 2), (3, 4), (7, 5)])
def test_values_and_gradients_of_any_size(h, w):
    x, kernel, slope = case(h, w, seed=h)
    value, pull = jax.vjp(jax.jit(by_rows.product), x, kernel)
    for got, expected in zip((value, *pull(slope)), exact(x, kernel, slope), strict=True):
        np.testing.assert_allclose(got, expected, atol=4e-5)


def test_error_at_the_width_of_the_heads():
    x, _, slope = case(16, 12, 0, batch=16, channels=48, outputs=48)
    got = jax.jit(by_rows.kernel_gradient)(x, slope)
    expected = exact(x, np.zeros((3, 3, 48, 48), np.float32), slope)[2]
    assert np.abs(got - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("shape", "size", "outputs", "stride", "dtype", "used"),
    [
        ((16, 16, 12, 48), 3, 48, 1, jnp.float32, True),
        ((8, 16, 12, 48), 3, 48, 1, jnp.float32, False),  # too few pixels
        ((16, 16, 12, 48), 3, 6, 1, jnp.float32, False),  # too few outputs
        ((16, 16, 12, 48), 3, 48, 2, jnp.float32, False),
        ((16, 16, 12, 48), 1, 48, 1, jnp.float32, False),
        ((16, 16, 12, 48), 3, 48, 1, jnp.bfloat16, False),
    ],
)
def test_where_it_is_used(shape, size, outputs, stride, dtype, used):
    conv = layers.Conv(outputs, size, stride, dtype=dtype)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(conv.init, jax.random.key(0), x)
    loss = lambda variables, x: conv.apply(variables, x).astype(jnp.float32).sum()  # noqa: E731
    gradients = jax.jit(jax.grad(loss, (0, 1)))

    def products(platform):
        lowered = gradients.trace(variables, x).lower(lowering_platforms=(platform,))
        return lowered.as_text().count("stablehlo.dot_general")

    assert products("cpu") - products("cuda") == (3 if used else 0)
