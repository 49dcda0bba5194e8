"""The step, compiled once for each shape of batches, and what it costs."""

from collections.abc import Callable
from typing import Any

import jax

from pse_jax.training.objective import Batch
from pse_jax.training.step import Metrics


class Programs:
    """Calls the jitted step; knows the program of each shape."""

    def __init__(self, step: Callable[[Any, Batch], tuple[Any, Metrics]]):
        self.step: Any = step
        self.compiled: dict[tuple[Any, ...], jax.stages.Compiled] = {}

    def __call__(self, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        """The step; compiles it if the batch has a new shape."""
        key = _shapes(batch)
        if key not in self.compiled:
            self.compiled[key] = self.step.lower(state, batch).compile()
        return self.compiled[key](state, batch)

    def cost(self, batch: Batch) -> str:
        """`each device 81.2 GFLOP a step, 3.4 GB`: the compiler's count, as far as it has one.

        Args:
            batch: of a shape that is compiled.
        """
        program, parts = self.compiled[_shapes(batch)], []
        flops = (program.cost_analysis() or {}).get("flops", 0.0)
        if flops > 0:
            parts.append(f"{flops / 1e9:.3g} GFLOP a step")
        if memory := program.memory_analysis():
            needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
            needed += memory.temp_size_in_bytes - memory.alias_size_in_bytes
            parts.append(f"{needed / 1e9:.3g} GB")
        return f"each device {', '.join(parts) or 'does not say what it takes'}"


def _shapes(batch: Batch) -> tuple[Any, ...]:
    return tuple(sorted((name, value.shape) for name, value in batch.items()))
