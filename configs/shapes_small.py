"""Smaller still, for a first look at many losses.

    python -m pse_jax sweep --config configs/shapes_small.py --table losses --out runs/losses

About 2 min per run on 2 CPU cores, alone. Expect AP 28.2, AP75 21.3 (seed 0, jax 0.10.2): single
runs differ by points this early, and an earlier version, rounded otherwise, gave AP 33.0.
docs/first_look.md has one run of each loss by a still earlier one.
"""

from pse_jax.config import Config
from pse_jax.configs import shapes_pse


def get_config() -> Config:
    config = shapes_pse.get_config()
    config.name = "shapes_small"
    config.data.batch_size = 16
    config.data.shapes.val_images = 300
    config.optimizer.base_batch = 16
    config.optimizer.learning_rate = 0.07
    config.optimizer.steps = 700
    config.optimizer.milestones = (350, 520, 640)  # the same shares of the run
    config.train.checkpoint_every = 350
    config.train.tensorboard = False
    return config
