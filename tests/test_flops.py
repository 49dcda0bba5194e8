"""The benchmarks' count of operations against the compiler's."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import fcos_flops
from pse_jax import models
from pse_jax.configs import coco_pse
from pse_jax.models import winograd


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_of_the_network(stride_in_1x1, monkeypatch):
    """The compiler does not count the products with the zeros around an image: 1 %."""
    monkeypatch.setattr(winograd, "VALUES", float("inf"))
    config = coco_pse.get_config()
    config.model.dtype, config.model.stride_in_1x1 = "float32", stride_in_1x1
    model = models.create(config.model, 80)
    variables = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1, 800, 1344, 3), jnp.float32)
    counted = jax.jit(model.apply).lower(variables, images).cost_analysis()["flops"]
    ours, _ = fcos_flops.flops((800, 1344), stride_in_1x1=stride_in_1x1)
    assert 0.985 < counted / ours < 1
