"""Steps whose loss or gradient is not finite: named, and too many in a row end the run."""

import logging

import numpy as np

from pse_jax.config import Config
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan
from pse_jax.errors import TrainingError
from pse_jax.runs.folder import Run

logger = logging.getLogger(__name__)


def check(
    steps: list[int],
    metrics: dict[str, np.ndarray],
    run: Run,
    config: Config,
    dataset: Dataset,
    plan: TrainPlan,
) -> None:
    """Logs those among `steps` with the ids of their images.

    Raises:
        TrainingError: if there were `train.max_bad_steps` in a row.
    """
    for step, finite, in_a_row in zip(steps, metrics["finite"], metrics["bad_steps"], strict=True):
        if finite:
            continue
        ids = dataset.image_ids[plan[step - 1].images].tolist()
        logger.error("step %d is not finite and was skipped; its image ids: %s", step, ids)
        if in_a_row >= config.train.max_bad_steps:
            raise TrainingError(
                f"{int(in_a_row)} steps in a row, up to {step}, had a loss or gradient that is "
                "not finite; the parameters are those before them. Look at the images named "
                "in the log. To resume with a lower learning rate, add "
                f"--config.optimizer.learning_rate={config.optimizer.learning_rate / 2:g} "
                "--allow-change=optimizer.learning_rate to the same command; in the same way "
                "optimizer.warmup_steps or optimizer.clip_norm. To go further back, add "
                f"--from-checkpoint={run.checkpoints}/STEP and another --workdir"
            )
