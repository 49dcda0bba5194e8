"""Your own photos, from scratch, on two CPU cores in minutes: docs/tutorial.md.

    python train.py --config configs/own_small.py --config.data.root=DATA --workdir runs/own

DATA is a folder in COCO's format, as `python -m pse_jax convert` writes it. On a GPU: own.py. On
BCCD's 292 photos it ends at AP 51 to 55 and AP50 87 to 90 (six runs, docs/tutorial.md), after 17
minutes on two CPU cores.
"""

from pse_jax.config import Config, DataConfig
from pse_jax.configs import shapes_pse


def get_config() -> Config:
    config = shapes_pse.get_config()  # a small model from scratch, its warm-up and clipping
    config.name = "own_small"
    # Of the improved FCOS (configs/coco_fcos_improved.py), without its branch: PSE takes its place.
    config.model.fpn_channels = 32
    config.model.distances = "relu"
    config.targets.center_radius = 1.5
    config.loss.box = "giou"

    batch = 4
    config.data = DataConfig(
        short_side=300,
        long_side=400,
        buckets=2,
        batch_size=batch,
        flip_vertical=0.5,
        zoom=(0.75, 1.4),
        brightness=0.15,
        contrast=0.15,
        saturation=0.15,
        hue=0.02,
        threads=2,
        cache_gb=1.0,
    )
    config.optimizer.base_batch = batch
    config.optimizer.learning_rate = 0.03
    config.optimizer.steps = 3600
    config.optimizer.milestones = (1800, 2700, 3300)
    config.optimizer.ema_decay = 0.998
    config.inference.batch_size = 8
    config.inference.nms_threshold = 0.5  # doubled boxes cost more than neighbours that overlap
    config.train.checkpoint_every = 600
    config.train.eval_every = 1200
    return config
