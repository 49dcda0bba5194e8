"""A trace of some steps: what the devices and the host did, and when (docs/performance.md)."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from pse_jax import distributed
from pse_jax.errors import UserError

logger = logging.getLogger(__name__)

BEFORE = 10  # steps of a session that are not traced: they compile, and fill the pipeline


class Profile:
    """Traces steps of this session, on the main process, with JAX's profiler."""

    def __init__(self, folder: Path, start: int, total: int, steps: int):
        """Traces nothing yet.

        Args:
            folder: of the trace.
            start: the step that this session starts from.
            total: the last step of the run.
            steps: to trace; 0 for none.

        Raises:
            UserError: if the run ends before the trace would.
        """
        self.folder, self.steps, self.tracing = folder, steps, False
        self.first, self.last = start + BEFORE + 1, start + BEFORE + steps
        if steps and self.last > total:
            raise UserError(
                f"--profile={steps} would trace steps {self.first} to {self.last}, "
                f"but the run ends at step {total}; trace fewer, or train for longer "
                "(--config.optimizer.steps)"
            )

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Around all that is done for a step, once its batch is there."""
        if self.steps and step == self.first and distributed.is_main():
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # it would slow the host
            jax.profiler.start_trace(self.folder, profiler_options=options)
            self.tracing = True
        if not self.tracing:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def stepped(self, step: int, scalars: Any) -> None:
        """After a step; the last one is waited for, so that it is in the trace."""
        if self.tracing and step == self.last:
            jax.block_until_ready(scalars)
            self.close()
            logger.info(
                "profile: steps %d to %d are in %s (docs/performance.md says how to read it)",
                *(self.first, self.last, self.folder),
            )

    def close(self) -> None:
        """Ends a trace that is not ended, of a run that stops early."""
        if self.tracing:
            self.tracing = False
            jax.profiler.stop_trace()
