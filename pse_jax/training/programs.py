"""The step, compiled for each shape of batches, and what it costs.

Behind the first shape's program, those of the shapes that come soon are compiled, in threads of
their own: where the host has the processors, a run need not wait for one after the other.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from pse_jax import processors
from pse_jax.training.objective import Batch
from pse_jax.training.step import Metrics

Shape = tuple[int, int]  # height and width of a batch's images, px
CORES = (
    4  # of the host for each compiler: it has threads of its own, and two on two cores are slower
)


class Programs:
    """Calls the jitted step; knows the program of each shape."""

    def __init__(self, step: Callable[[Any, Batch], tuple[Any, Metrics]], soon: Iterable[Shape]):
        """Compiles nothing yet.

        Args:
            step: jitted, or something else that can be lowered.
            soon: shapes to compile with the first, in this order; any other when it comes.
        """
        self.step: Any = step
        self.soon = list(soon)
        self.programs: dict[Shape, Future[jax.stages.Compiled]] = {}
        self.seconds: dict[Shape, float] = {}  # that each took
        workers = max(1, processors.count() // CORES)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="compile")

    def __call__(self, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        """The step; waits for its program if need be."""
        shape = shape_of(batch)
        if shape not in self.programs:
            self._begin(state, batch)
        return self.programs[shape].result()(state, batch)

    def is_ready(self, batch: Batch) -> bool:
        """Whether the step of this batch need not wait for a compiler."""
        program = self.programs.get(shape_of(batch))
        return program is not None and program.done()

    @property
    def last_seconds(self) -> float | None:
        """What the latest of the finished programs took; None before there is one."""
        done = [shape for shape, program in self.programs.items() if program.done()]
        return self.seconds[done[-1]] if done else None

    def cost(self, batch: Batch) -> str:
        """`each device 81.2 GFLOP a step, 3.4 GB`: the compiler's count, as far as it has one.

        Args:
            batch: of a shape that is compiled.
        """
        program, parts = self.programs[shape_of(batch)].result(), []
        flops = (program.cost_analysis() or {}).get("flops", 0.0)
        if flops > 0:
            parts.append(f"{flops / 1e9:.3g} GFLOP a step")
        if memory := program.memory_analysis():
            needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
            needed += memory.temp_size_in_bytes - memory.alias_size_in_bytes
            parts.append(f"{needed / 1e9:.3g} GB")
        return f"each device {', '.join(parts) or 'does not say what it takes'}"

    def close(self) -> None:
        """Begins no more of those that wait for their turn."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, state: Any, batch: Batch) -> None:
        """Has the programs of this batch's shape and of all that come soon compiled.

        They are traced here, as JAX's settings may be those of this thread alone.
        """
        state, first = jax.tree.map(_described, (state, batch))
        image = first["image"]
        for shape in dict.fromkeys([shape_of(first), *self.soon]):
            if shape not in self.programs:
                began = time.perf_counter()
                sized = (image.shape[0], *shape, image.shape[3])
                other = jax.ShapeDtypeStruct(sized, image.dtype, sharding=image.sharding)
                lowered = self.step.lower(state, {**first, "image": other})
                self.seconds[shape] = time.perf_counter() - began
                self.programs[shape] = self.pool.submit(self._compile, shape, lowered)

    def _compile(self, shape: Shape, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        began = time.perf_counter()
        program = lowered.compile()
        self.seconds[shape] += time.perf_counter() - began
        return program


def shape_of(batch: Mapping[str, Any]) -> Shape:
    """That of a batch's images."""
    _, height, width, _ = batch["image"].shape
    return height, width


def _described(array: jax.Array) -> jax.ShapeDtypeStruct:
    """An array without its values: a step takes over the buffers of those it is given."""
    return jax.ShapeDtypeStruct(
        array.shape, array.dtype, sharding=array.sharding, weak_type=array.aval.weak_type
    )
