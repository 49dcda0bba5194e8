"""Trains, and sends what is measured to Weights & Biases.

    pip install wandb && wandb login
    python docs/examples/wandb_callback.py configs/shapes_pse.py runs/a

Without an account: WANDB_MODE=offline, which writes to ./wandb.
"""

import dataclasses
import hashlib
import math
import sys
from typing import Any

import wandb

from pse_jax.training.callbacks import Callback, RunInfo
from pse_jax.training.loop import train
from pse_jax.verbs import flags


class WandbCallback(Callback):
    """One W&B run for one folder: a run that resumes continues it."""

    def __init__(self, project: str):
        self.project = project

    def on_start(self, run: RunInfo) -> None:
        """Opens it."""
        self.run = wandb.init(
            project=self.project,
            name=run.config.name,
            id=hashlib.sha1(str(run.folder.resolve()).encode()).hexdigest()[:16],
            resume="allow",
            config=dataclasses.asdict(run.config),
        )
        # A resumed run takes some steps again, which W&B's own counter refuses: ours is the x axis.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def on_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """train/loss, train/lr, ..."""
        self._log(step, "train", scalars)

    def on_evaluation(self, step: int, numbers: dict[str, Any]) -> None:
        """eval/AP, eval/AP50, ... and the AP of each class."""
        self._log(step, "eval", numbers)
        self._log(step, "eval/per_class", numbers.get("per_class") or {})

    def on_end(self, outcome: str) -> None:
        """Closes it; "interrupted" can be resumed."""
        self.run.summary["outcome"] = outcome
        self.run.finish(exit_code=int(outcome == "failed"))

    def _log(self, step: int, group: str, values: dict[str, Any]) -> None:
        finite = {
            f"{group}/{name}": value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self.run.log({"step": step, **finite})


def main(config_file: str, folder: str) -> None:
    """Trains the configuration of a file in a folder."""
    config = flags.load_config(config_file)
    flags.prepare(config)
    train(config, folder, callbacks=[WandbCallback("pse-jax")])


if __name__ == "__main__":
    main(*sys.argv[1:])
