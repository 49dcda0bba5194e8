"""The step's programs: which are compiled, when, and what becomes of errors."""

import jax
import jax.numpy as jnp
import pytest

from pse_jax.training.programs import Programs


def batch(height, width):
    return {"image": jnp.ones((2, height, width, 3), jnp.uint8), "boxes": jnp.zeros((2, 4))}


@jax.jit
def step(state, batch):
    if batch["image"].shape[1] == 9:
        raise ValueError("nine is too high")
    return state + batch["image"].sum(dtype=jnp.int32), {"loss": batch["boxes"].sum()}


def test_what_comes_soon_is_compiled_with_the_first():
    programs = Programs(step, [(4, 4), (8, 4)])
    assert not programs.is_ready(batch(4, 4))
    state, metrics = programs(jnp.int32(1), batch(4, 4))
    assert int(state) == 1 + 2 * 4 * 4 * 3 and float(metrics["loss"]) == 0
    assert set(programs.programs) == {(4, 4), (8, 4)}  # not (4, 8), which nobody spoke of
    programs.programs[8, 4].result(60)
    assert programs.is_ready(batch(8, 4)) and programs.seconds[8, 4] > 0
    ahead = programs.programs[8, 4]
    state, _ = programs(state, batch(8, 4))
    state, _ = programs(state, batch(4, 8))
    assert int(state) == 1 + 2 * 3 * (16 + 32 + 32) and programs.programs[8, 4] is ahead
    programs.close()


def test_what_cannot_be_traced_is_said_at_the_first_step():
    programs = Programs(step, [(9, 4)])
    with pytest.raises(ValueError, match="nine is too high"):
        programs(jnp.int32(0), batch(4, 4))
    programs.close()


def test_what_cannot_be_compiled_is_said_by_the_step_that_needs_it(monkeypatch):
    compile, calls = jax.stages.Lowered.compile, []

    def once(lowered):
        calls.append(lowered)
        if len(calls) > 1:
            raise MemoryError("there is no room for it")
        return compile(lowered)

    monkeypatch.setattr(jax.stages.Lowered, "compile", once)
    programs = Programs(step, [(8, 4)])
    programs(jnp.int32(0), batch(4, 4))
    with pytest.raises(MemoryError, match="no room"):
        programs(jnp.int32(0), batch(8, 4))
    programs.close()


def test_the_settings_are_those_of_the_thread_that_calls():
    exact = jax.jit(lambda state, batch: (state, {"y": batch["boxes"] @ batch["boxes"].T}))
    with jax.default_matmul_precision("float32"):
        programs = Programs(exact, [(8, 4)])
        programs(jnp.int32(0), batch(4, 4))
        text = programs.programs[8, 4].result(60).as_text()
    assert text is not None and "operand_precision={highest,highest}" in text
    programs.close()


def test_it_is_the_program_of_the_step_itself():
    """Also where the state is donated: nothing but its description is kept."""
    donating = jax.jit(lambda s, b: step(s, b), donate_argnums=0)
    programs = Programs(donating, [(8, 4), (8, 8), (4, 8)])
    state = jnp.int32(1)
    for shape in ((4, 4), (8, 4), (8, 8), (4, 8)):
        state, _ = programs(state, batch(*shape))
    assert int(state) == 1 + 6 * (16 + 32 + 64 + 32)
    programs.close()


def test_the_compilers_count():
    """A product of n x n takes 2n³ operations, and reads and writes 8n² bytes."""
    multiply = jax.jit(lambda state, batch: (state, {"product": batch["boxes"] @ batch["boxes"]}))
    for size, said in (500, "0.25 GFLOP a step, 0.00"), (1000, "2 GFLOP a step, 0.008"):
        programs = Programs(multiply, [])
        given = {"image": jnp.zeros((1, 1, 1, 3)), "boxes": jnp.ones((size, size))}
        programs(jnp.zeros(()), given)
        assert programs.cost(given).startswith(f"each device {said}")
