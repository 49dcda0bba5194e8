"""What a run is, in words, before its first step."""

from collections.abc import Iterator
from typing import Any

from pse_jax import models
from pse_jax.config import Config
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan
from pse_jax.losses.detection import describe_loss
from pse_jax.training import optimizer


def facts(
    config: Config, dataset: Dataset, val_set: Dataset, plan: TrainPlan, params: Any
) -> dict[str, str]:
    """Name and text of each fact, in the order in which they are logged; `epochs` comes last."""
    total, trainable = models.count_parameters(params, config.model)
    canvases = ", ".join(f"{w}x{h}" for h, w in plan.shapes_hw)
    parts = f" in {config.train.accumulate} parts" if config.train.accumulate > 1 else ""
    found = {
        "train data": f"{len(dataset)} images, {len(dataset.labels)} boxes, "
        f"{len(dataset.categories)} classes ({dataset.source})",
        "val data": f"{len(val_set)} images ({val_set.source})",
        "batches": f"{config.data.batch_size} images{parts}, padded to {canvases}",
        "model": f"{total:,} parameters, {trainable:,} trainable",
        "loss": describe_loss(config.loss, config.model.quality),
        "rate": optimizer.describe_rate(config),
    }
    if decay := config.optimizer.ema_decay:
        found["average"] = f"of the parameters, decay {decay:g}: evaluated, saved as the best"
    if waits := config.train.patience:
        found["patience"] = f"{waits} evaluations without a better AP end the run"
    epochs = config.optimizer.steps * config.data.batch_size / plan.epoch
    return found | {"epochs": f"{epochs:.3g} epochs"}


def warnings(config: Config) -> Iterator[str]:
    """What of the schedule never comes, as the run is too short for it."""
    schedule = config.optimizer
    steps = schedule.steps
    if beyond := [m for m in schedule.milestones if m > steps]:
        listed = ", ".join(map(str, beyond))
        yield (
            f"config.optimizer.milestones: {listed} lie beyond the last step, {steps}: "
            "the learning rate does not fall there"
        )
    if schedule.warmup_steps > steps:
        yield (
            f"config.optimizer.warmup_steps={schedule.warmup_steps} lies beyond the last step, "
            f"{steps}: the learning rate stays in its warm-up"
        )
