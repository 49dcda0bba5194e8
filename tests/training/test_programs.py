"""One program for each shape, and what it costs by the compiler's count."""

import jax
import jax.numpy as jnp

from pse_jax.training.programs import Programs


def test_one_program_for_each_shape_and_its_cost():
    traced = []

    def step(state, batch):
        traced.append(batch["image"].shape)
        return state + 1, {"product": batch["image"] @ batch["image"]}

    programs = Programs(jax.jit(step))
    small, large = ({"image": jnp.ones((n, n))} for n in (500, 1000))
    state = jnp.zeros(())
    for batch in (small, large, small):
        state, metrics = programs(state, batch)
        assert metrics["product"][0, 0] == len(batch["image"])
    assert traced == [(500, 500), (1000, 1000)] and state == 3
    # A product of n x n takes 2n³ operations, and reads and writes 8n² bytes.
    assert programs.cost(small).startswith("each device 0.25 GFLOP a step, 0.00")
    assert programs.cost(large).startswith("each device 2 GFLOP a step, 0.008")
