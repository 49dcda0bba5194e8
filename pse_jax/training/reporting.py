"""What a run says of itself while it trains."""

import json
import logging
from typing import Any

import jax
import numpy as np

from pse_jax import models, progress
from pse_jax.config import Config, to_dict
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan
from pse_jax.errors import TrainingError
from pse_jax.losses.detection import describe_loss
from pse_jax.runs.folder import Run
from pse_jax.training import optimizer
from pse_jax.training.scalars import Clock, ScalarWriter

logger = logging.getLogger(__name__)


class Reporter:
    """Collects the metrics of steps without waiting for them, and every so often reports."""

    def __init__(
        self,
        config: Config,
        run: Run,
        dataset: Dataset,
        plan: TrainPlan,
        start: int,
        window: list[dict[str, Any]],
    ):
        self.config, self.run, self.dataset, self.plan = config, run, dataset, plan
        self.start, self.optimizer = start, optimizer.for_batch(config)
        self.writer = ScalarWriter(run, start, config.train.tensorboard)
        self.clock = Clock()
        self.pending: list[tuple[int, dict[str, Any]]] = [(m.pop("step"), m) for m in window]
        self.compiled = self.seen_compiled = 0
        self.bar = progress.bar(config.optimizer.steps, "train", initial=start)

    def introduce(self, params: Any, val_set: Dataset) -> None:
        """Logs what this run is, one fact per line."""
        config, dataset = self.config, self.dataset
        total, trainable = models.count_parameters(params, config.model)
        canvases = ", ".join(f"{w}x{h}" for h, w in self.plan.shapes_hw)
        resumed = " (resumed from a checkpoint)" if self.start else ""
        parts = f" in {config.train.accumulate} parts" if config.train.accumulate > 1 else ""
        epochs = config.optimizer.steps * config.data.batch_size / self.plan.epoch
        facts = {
            "run": f"{config.name}, seed {config.seed}, in {self.run.folder}",
            "train data": f"{len(dataset)} images, {len(dataset.labels)} boxes, "
            f"{len(dataset.categories)} classes ({dataset.source})",
            "val data": f"{len(val_set)} images ({val_set.source})",
            "batches": f"{config.data.batch_size} images{parts}, padded to {canvases}",
            "model": f"{total:,} parameters, {trainable:,} trainable",
            "loss": describe_loss(config.loss, config.model.quality),
            "rate": optimizer.describe_rate(config),
            "steps": f"{self.start} to {config.optimizer.steps}{resumed}; {epochs:.3g} epochs",
        }
        if decay := config.optimizer.ema_decay:
            facts["average"] = f"of the parameters, decay {decay:g}: evaluated, saved as the best"
        for name, fact in facts.items():
            logger.info("%-11s %s", name, fact)
        text = json.dumps(to_dict(config), indent=2)
        self.writer.add_text("config", f"```json\n{text}\n```")

    def step(self, step: int, scalars: dict[str, jax.Array], compiled: int) -> None:
        """Keeps the metrics of a step; reports every `log_every` steps.

        Args:
            step: its number, from 1.
            scalars: its metrics, still on the device.
            compiled: programs of the step so far.
        """
        self.pending.append((step, scalars))
        self.bar.update(1)
        if compiled > self.compiled:
            self.compiled = compiled
            shape = self.plan[step - 1].shape_hw
            logger.info("compiled the step for %dx%d images (%d so far)", *shape[::-1], compiled)
        if step % self.config.train.log_every == 0 or step == self.config.optimizer.steps:
            self.close_window(step)

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
        self.run.check_held()
        steps = [s for s, _ in self.pending]
        fetched = jax.device_get([m for _, m in self.pending])
        self.pending = []
        self.clock.stop(compiled=self.compiled > self.seen_compiled)
        self.seen_compiled = self.compiled
        stacked = {k: np.array([m[k] for m in fetched], np.float64) for k in fetched[0]}
        means = {k: float(v.mean()) for k, v in stacked.items() if k not in ("finite", "bad_steps")}
        means["skipped"] = float(stacked["skipped"][-1])
        means["unreadable"] = float(stacked["unreadable"].sum())
        means["lr"] = float(optimizer.learning_rate(step, self.optimizer))
        if self.clock.step_seconds:
            means["images_per_second"] = self.config.data.batch_size / self.clock.step_seconds
        self.writer.write(step, means)
        logger.info(self._line(step, means))
        self.bar.set_postfix_str(f"loss {means['loss']:.3f}")
        self._report_bad_steps(steps, stacked)

    def close(self) -> None:
        """Writes out what is buffered and takes the bar away."""
        self.writer.close()
        self.bar.close()

    def _line(self, step: int, means: dict[str, float]) -> str:
        """`step 1200/90000 (1.3%) eta 5h12m loss 1.234 cls .. lr .. img/s .. data ..`."""
        total, seconds = self.config.optimizer.steps, self.clock.step_seconds
        terms = ["loss", "cls", "box"]
        terms += ["assoc"] if self.config.loss.association != "none" else []
        terms += ["quality"] if self.config.model.quality != "none" else []
        parts = [
            f"step {step}/{total} ({step / total:.1%})",
            f"eta {progress.duration((total - step) * seconds) if seconds else '?'}",
            *(f"{name} {means[name]:.4f}" for name in terms),
            f"lr {means['lr']:.4g}",
            f"img/s {means['images_per_second']:.1f}" if seconds else "img/s ?",
            f"data {self.clock.last_wait * 1e3:.0f}ms",
        ]
        return " ".join(parts)

    def _report_bad_steps(self, steps: list[int], stacked: dict[str, np.ndarray]) -> None:
        for step, finite, in_a_row in zip(
            steps, stacked["finite"], stacked["bad_steps"], strict=True
        ):
            if finite:
                continue
            ids = self.dataset.image_ids[self.plan[step - 1].images].tolist()
            logger.error("step %d is not finite and was skipped; its image ids: %s", step, ids)
            if in_a_row >= self.config.train.max_bad_steps:
                raise TrainingError(
                    f"{int(in_a_row)} steps in a row, up to {step}, had a loss or gradient that is "
                    "not finite; the parameters are those before them. Look at the images named "
                    "in the log. To resume with a lower learning rate, add "
                    f"--config.optimizer.learning_rate={self.config.optimizer.learning_rate / 2:g} "
                    "--allow-change=optimizer.learning_rate to the same command; in the same way "
                    "optimizer.warmup_steps or optimizer.clip_norm. To go further back, add "
                    f"--from-checkpoint={self.run.checkpoints}/STEP and another --workdir"
                )
