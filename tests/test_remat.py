"""model.remat: the same gradients, of fewer activations kept from the forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pse_jax import models
from pse_jax.config import ModelConfig


def kept_bytes(config, images):
    """Bytes that the backward pass of the network is handed: activations, and the parameters."""
    model = models.create(config, 80)
    variables = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))

    def forward(params, frozen, images):
        apply = lambda params: model.apply({"params": params, "frozen": frozen}, images)  # noqa: E731
        return jax.vjp(apply, params)[1]

    kept = jax.eval_shape(forward, variables["params"], variables.get("frozen", {}), images)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.slow
def test_most_of_what_uses_memory_is_computed_again():
    """Backbone and towers: these keep more than the backbone (docs/training.md)."""
    images = jax.ShapeDtypeStruct((1, 800, 1344, 3), jnp.float32)
    plain, less = (
        kept_bytes(ModelConfig(depth=10, dtype="bfloat16", remat=remat), images)
        for remat in (False, True)
    )
    assert less < plain / 3


def test_gradients_are_the_same():
    found = []
    for remat in (False, True):
        config = tiny.make_config(remat=remat, frozen_stages=4, norm="frozen_bn").model
        model = models.create(config, tiny.CLASSES)
        variables = tiny.make_variables(model)
        images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))

        def objective(params, model=model, variables=variables, images=images):
            out = model.apply(variables | {"params": params}, images)
            return jnp.square(out.class_logits).sum() + jnp.log1p(out.distances).sum()

        program = jax.jit(jax.grad(objective)).lower(variables["params"])
        # Not the same program: one block is trained, and two towers at five levels.
        assert program.as_text().count("optimization_barrier") == (1 + 10) * remat
        gradient = program.compile(tiny.FAST)(variables["params"])
        found.append(dict(jax.tree.leaves_with_path(gradient)))
    for path, plain in found[0].items():
        scale = np.abs(plain).max()
        assert scale > 0 or "backbone" in str(path)
        np.testing.assert_allclose(found[1][path], plain, atol=1e-5 * scale, err_msg=str(path))
