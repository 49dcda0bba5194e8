"""Your own photos, on one GPU: a ResNet-50 from ImageNet weights, with the PSE loss.

    python train.py --config configs/own.py --config.data.root=DATA --workdir runs/own

DATA holds annotations/instances_{train,val}.json, train/ and val/, as `python -m pse_jax convert`
writes them. 3,000 steps of 8 images of 640 px. Not yet run with this code: no duration, no score of
our own. On CPUs: configs/own_small.py.
"""

from pse_jax.config import Config
from pse_jax.configs import coco_pse, own_small


def get_config() -> Config:
    config, small = coco_pse.get_config(), own_small.get_config()
    config.name = "own"
    # Of the improved FCOS (configs/coco_fcos_improved.py), without its branch: PSE takes its place.
    config.model.distances = "relu"
    config.targets.center_radius = 1.5
    config.loss.box = "giou"

    config.data = small.data  # files, and random changes of the images
    config.data.short_side, config.data.long_side = 640, 1067
    config.data.buckets = 3
    config.data.threads = 8
    config.optimizer.base_batch = config.data.batch_size
    config.optimizer.learning_rate = 0.005  # 0.01 is for batches of 16
    config.optimizer.steps = 3000
    config.optimizer.milestones = (2000, 2700)
    config.optimizer.warmup = "linear"
    config.optimizer.clip_norm = 10.0
    config.optimizer.ema_decay = 0.998
    config.train.checkpoint_every = 500
    config.train.eval_every = 500
    return config
