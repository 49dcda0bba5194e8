"""FCOS as published: the baseline with a centre-ness branch on the class tower (FCOS, sec. 3.4).

    python train.py --config configs/coco_fcos_centerness.py --config.data.root=/data/coco

90,000 steps of 16 images. Published: AP 37.1, AP75 39.8 (FCOS, table 3). Not yet run with this
code: no duration, no score of our own.
"""

from pse_jax.config import Config
from pse_jax.configs import coco_fcos


def get_config() -> Config:
    config = coco_fcos.get_config()
    config.name = "coco_fcos_centerness"
    config.model.quality = "centerness"
    config.loss.box_by_centerness = True
    config.inference.sqrt_score = True  # the score is sqrt(class · centre-ness)
    return config
