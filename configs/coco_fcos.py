"""The paper's baseline on COCO: configs/coco_pse.py without the association loss.

    python train.py --config configs/coco_fcos.py --config.data.root=/data/coco

90,000 steps of 16 images. Published: AP 33.8, AP75 35.4 (the paper's text). Not yet run with this
code: no duration, no score of our own.
"""

from pse_jax.config import Config
from pse_jax.configs import coco_pse


def get_config() -> Config:
    config = coco_pse.get_config()
    config.name = "coco_fcos"
    config.loss.association = "none"
    return config
