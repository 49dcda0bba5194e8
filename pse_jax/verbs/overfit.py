"""train.py --overfit N: whether a set-up can learn a few images by heart."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from pse_jax.config import Config
from pse_jax.config_checks import validate
from pse_jax.training.callbacks import Callback, RunInfo

logger = logging.getLogger(__name__)

STEPS = 300  # unless --config.optimizer.steps is given
# No image comes in more than one form, and none more often than another.
PLAIN: dict[str, Any] = {"flip": 0.0, "flip_vertical": 0.0, "zoom": (1.0, 1.0), "jitter": ()}
PLAIN |= dict.fromkeys(("brightness", "contrast", "saturation", "hue", "repeat_threshold"), 0.0)
ENOUGH = 0.9  # AP50 on the images that were trained on


def configuration(config: Config, images: int, overrides: Sequence[str]) -> Config:
    """The same set-up, for so many images: nothing augments them, and the rate does not fall.

    Raises:
        ConfigError: if the result cannot be trained.
    """
    given = any(flag.startswith("--config.optimizer.steps=") for flag in overrides)
    steps = config.optimizer.steps if given else STEPS
    changed = dataclasses.replace(
        config,
        name=f"{config.name}_overfit{images}",
        data=dataclasses.replace(config.data, overfit=images, **PLAIN),
        optimizer=dataclasses.replace(
            config.optimizer,
            steps=steps,
            milestones=(),
            warmup_steps=min(config.optimizer.warmup_steps, steps // 10),
        ),
        train=dataclasses.replace(
            config.train, eval_every=0, patience=0, checkpoint_every=steps, keep_checkpoints=1
        ),
    )
    validate(changed)
    return changed


def learned(numbers: dict[str, Any]) -> bool:
    """Whether the numbers of an evaluation on the images that were trained on are good enough."""
    return (numbers["AP50"] or 0.0) >= ENOUGH


class Verdict(Callback):
    """Logs whether the images were learned, as the last word of the run."""

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = {}

    def on_start(self, run: RunInfo) -> None:
        """Keeps the configuration."""
        self.config = run.config

    def on_evaluation(self, step: int, numbers: dict[str, Any]) -> None:
        """Keeps the numbers."""
        self.numbers = numbers

    def on_end(self, outcome: str) -> None:
        """Says whether they are good enough, if all steps were taken."""
        if outcome != "finished":
            return
        images, steps = self.config.data.overfit, self.config.optimizer.steps
        ap, ap50 = (100 * (self.numbers[name] or 0.0) for name in ("AP", "AP50"))
        found = f"AP50 {ap50:.1f} and AP {ap:.1f} on the images that it was trained on"
        enough = f"AP50 {100 * ENOUGH:.0f} is enough"
        if learned(self.numbers):
            logger.info("overfit: yes, this set-up can learn: %s (%s)", found, enough)
            return
        logger.error(
            "overfit: NO, this set-up did not learn %d images in %d steps: %s (%s). If the loss "
            "still falls, give more --config.optimizer.steps; if it does not, look at the labels "
            "(python -m pse_jax check) and at the learning rate: docs/training.md has the list",
            *(images, steps, found, enough),
        )
