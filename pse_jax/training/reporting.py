"""What a run says of itself while it trains."""

import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from pse_jax import progress
from pse_jax.config import Config, to_dict
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan
from pse_jax.errors import LockError
from pse_jax.evaluation import patience
from pse_jax.runs.folder import Run
from pse_jax.training import bad_steps, introduction, optimizer
from pse_jax.training.callbacks import Callbacks, RunInfo
from pse_jax.training.clock import Clock, Times
from pse_jax.training.programs import Programs, shape_of
from pse_jax.training.scalars import ScalarWriter

logger = logging.getLogger(__name__)

AHEAD = 2  # steps that may be dispatched and not computed: the device never waits for the host


class Reporter:
    """Collects the metrics of steps, says how far they are, and every so often reports."""

    def __init__(
        self,
        config: Config,
        run: Run,
        dataset: Dataset,
        plan: TrainPlan,
        start: int,
        window: list[dict[str, Any]],
        clock: Clock,
        callbacks: Callbacks,
    ):
        self.config, self.run, self.dataset, self.plan = config, run, dataset, plan
        self.start, self.optimizer = start, optimizer.for_batch(config)
        self.total, self.done = config.optimizer.steps, start  # steps; done: computed
        self.writer = ScalarWriter(run, start, config.train.tensorboard)
        self.clock, self.callbacks, self.outcome = clock, callbacks, ""
        self.times = Times(run.times, clock, start) if self.writer.main else None
        self.pending: list[tuple[int, dict[str, Any]]] = [(m.pop("step"), m) for m in window]
        self.running: deque[dict[str, Any]] = deque()  # metrics of steps that may not be computed
        self.compiled: set[tuple[int, int]] = set()  # shapes of images
        self.loss = ""
        self.bar = progress.bar(self.total, "train", initial=start, own_text=True)

    def introduce(self, params: Any, val_set: Dataset) -> None:
        """Logs what this run is, one fact per line."""
        facts = introduction.facts(self.config, self.dataset, val_set, self.plan, params)
        resumed = " (resumed from a checkpoint)" if self.start else ""
        where = f"{self.config.name}, seed {self.config.seed}, in {self.run.folder}"
        steps = f"{self.start} to {self.total}{resumed}; {facts.pop('epochs')}"
        facts = {"run": where, **facts, "steps": steps}
        for name, fact in facts.items():
            logger.info("%-11s %s", name, fact)
        for warning in introduction.warnings(self.config):
            logger.warning(warning)
        text = json.dumps(to_dict(self.config), indent=2)
        self.writer.add_text("config", f"```json\n{text}\n```")
        info = RunInfo(self.config, self.run.folder, self.start, self.total, facts)
        self.callbacks.call("on_start", info)

    def waited_for(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same batches, and the time spent waiting for each."""
        logger.info("waiting for the first batch")
        self.bar.set_postfix_str("waiting for the first batch")
        self.clock.turn_to("step")
        while True:
            with self.clock.during("data"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def compiling(self, batch: dict[str, Any], programs: Programs) -> Iterator[None]:
        """Around the dispatch of a step: says so if it waits for a program of a new shape.

        Args:
            batch: of the step.
            programs: of the step, by shape.
        """
        shape = shape_of(batch)
        if shape in self.compiled:
            yield
            return
        self.compiled.add(shape)
        number = f"{len(self.compiled)} of {len(self.plan.shapes_hw)}"
        if not programs.is_ready(batch):
            self._wait()
            about = programs.last_seconds
            guess = f" (about {progress.duration(about)})" if about else ""
            logger.info("compiling %s%s: the step for %dx%d images", number, guess, *shape[::-1])
            self.bar.set_postfix_str(f"compiling {number}{guess}")
        with self.clock.during("compile"):
            yield
        took, cost = progress.duration(programs.seconds[shape]), programs.cost(batch)
        logger.info("compiled %s in %s: %s", number, took, cost)

    def step(self, step: int, scalars: dict[str, jax.Array]) -> None:
        """Keeps the metrics of a step; reports every `log_every` steps.

        Args:
            step: its number, from 1.
            scalars: its metrics, still being computed.
        """
        self.pending.append((step, scalars))
        self.running.append(scalars)
        self._wait(but=AHEAD)
        if step % self.config.train.log_every == 0 or step == self.total:
            self.close_window(step)

    def _wait(self, but: int = 0) -> None:
        """Waits for the steps that were dispatched, except the last few; the bar counts them."""
        while self.running and (len(self.running) > but or _is_ready(self.running[0])):
            jax.block_until_ready(self.running.popleft())
            self.done += 1
            self.clock.finished()
            self.bar.set_postfix_str(self._shown(), refresh=False)
            self.bar.update(1)

    @contextlib.contextmanager
    def doing(self, kind: str, what: str = "") -> Iterator[None]:
        """Around what is neither data nor steps: "evaluate" or "save"."""
        self._wait()
        if what:
            logger.info(what)
            self.bar.set_postfix_str(what)
        with self.clock.during(kind):
            yield

    def window(self) -> list[dict[str, Any]]:
        """The metrics that are not yet written: a checkpoint keeps them for the next Reporter."""
        fetched = jax.device_get([metrics for _, metrics in self.pending])
        steps = [step for step, _ in self.pending]
        return [
            {"step": step, **{name: np.asarray(value).item() for name, value in metrics.items()}}
            for step, metrics in zip(steps, fetched, strict=True)
        ]

    def close_window(self, step: int) -> None:
        """Fetches, checks and writes the metrics that are pending."""
        if not self.pending:
            return
        self._wait()
        self.clock.close_window()
        self.run.check_held()
        steps = [s for s, _ in self.pending]
        fetched = jax.device_get([m for _, m in self.pending])
        self.pending = []
        stacked = {k: np.array([m[k] for m in fetched], np.float64) for k in fetched[0]}
        means = {k: float(v.mean()) for k, v in stacked.items() if k not in ("finite", "bad_steps")}
        means["skipped"] = float(stacked["skipped"][-1])
        means["unreadable"] = float(stacked["unreadable"].sum())
        means["lr"] = float(optimizer.learning_rate(step, self.optimizer))
        if seconds := self.clock.step_seconds:
            means["images_per_second"] = self.config.data.batch_size / seconds
            means["data_share"] = self.clock.data_share
        self.writer.write(step, means)
        self.callbacks.call("on_scalars", step, means)
        self.loss = f"loss {means['loss']:.3f}"
        logger.info(self._line(step, means))
        if self.times:
            self.times.write(step)
        bad_steps.check(steps, stacked, self.run, self.config, self.dataset, self.plan)

    def evaluated(self, step: int, numbers: dict[str, Any]) -> None:
        """Writes the row of an evaluation, which comes last: where it is, all else is written."""
        self.writer.write(step, {k: v for k, v in numbers.items() if isinstance(v, float)})
        self.callbacks.call("on_evaluation", step, numbers)

    def is_patience_exhausted(self) -> bool:
        """Whether the evaluations so far say that training is to stop; on the main process."""
        return patience.exhausted(self._due_evaluations(), self.config.train.patience)

    def conclude(self, step: int) -> None:
        """Says how training ended, at its end."""
        self.outcome = "finished" if step >= self.total else "stopped early"
        seconds = self.clock.seconds
        if not self.times:  # the main process says it
            return
        spent = (f"{kind} {progress.duration(s)}" for kind, s in seconds.items())
        logger.info("%-11s %s", "times", ", ".join(spent))
        if self.outcome == "stopped early":
            when, ap = patience.best(self._due_evaluations())
            logger.info(
                "stopped early at step %d of %d: no better AP in %d evaluations "
                "(config.train.patience); the best was %.1f at step %d",
                *(step, self.total, self.config.train.patience, 100 * ap, when),
            )

    def close(self) -> None:
        """Writes out what is buffered and takes the bar away."""
        self.writer.close()
        if self.times:
            with contextlib.suppress(LockError):  # the folder is another process's now
                self.run.check_held_here()
                self.times.write(self.done, now=True)
        self.bar.close()
        failed = isinstance(sys.exception(), Exception)
        self.callbacks.call("on_end", self.outcome or ("failed" if failed else "interrupted"))

    def _due_evaluations(self) -> list[patience.Evaluation]:
        """Those of `train.eval_every`, and no final one of a run that was made longer."""
        every = self.config.train.eval_every
        return [one for one in self.writer.evaluations() if every and one[0] % every == 0]

    def _eta(self, step: int) -> str:
        """Time left after a step, with the evaluations, saves and compilations to come."""
        train = self.config.train

        def times(every: int) -> int:
            return (self.total - 1) // every - step // every if every else 0

        others = {
            "evaluate": times(train.eval_every) + 1,
            "save": times(train.checkpoint_every) + 1,
            "compile": len(self.plan.shapes_hw) - len(self.compiled),
        }
        seconds = self.clock.left(self.total - step, others)
        return "?" if seconds is None else progress.duration(seconds)

    def _shown(self) -> str:
        """What stands behind the bar."""
        seconds = self.clock.step_seconds
        rate = f"{self.config.data.batch_size / seconds:.3g} img/s" if seconds else ""
        data = f"data {self.clock.data_share:.0%}" if self.clock.windows else ""
        return ", ".join(filter(None, (f"eta {self._eta(self.done)}", rate, data, self.loss)))

    def _line(self, step: int, means: dict[str, float]) -> str:
        """`step 1200/90000 (1.3%) eta 5h12m loss 1.234 cls .. lr .. img/s 312 data 2ms (1%)`."""
        seconds, share = self.clock.step_seconds, self.clock.data_share
        terms = ["loss", "cls", "box"]
        terms += ["assoc"] if self.config.loss.association != "none" else []
        terms += ["quality"] if self.config.model.quality != "none" else []
        parts = [
            f"step {step}/{self.total} ({step / self.total:.1%})",
            f"eta {self._eta(step)}",
            *(f"{name} {means[name]:.4f}" for name in terms),
            f"lr {means['lr']:.4g}",
            f"img/s {means['images_per_second']:.1f}" if seconds else "img/s ?",
            f"data {share * (seconds or 0) * 1e3:.0f}ms ({share:.0%})",
        ]
        return " ".join(parts)


def _is_ready(metrics: dict[str, Any]) -> bool:
    arrays = [one for one in metrics.values() if isinstance(one, jax.Array)]
    return all(one.is_ready() for one in arrays)  # pyright: ignore[reportAttributeAccessIssue]
