"""The paper's experiment: FCOS, ResNet-50-FPN, without centre-ness, with the PSE loss, on COCO.

    python train.py --config configs/coco_pse.py --config.data.root=/data/coco

Without a root, COCO 2017 is taken from where tensorflow_datasets keeps it, if it is there.
90,000 steps of 16 images. Published: AP 35.4, AP75 37.8 (the paper's text). Not yet run with this
code: no duration, no score of our own.
"""

from pse_jax.config import Config


def get_config() -> Config:
    # Every other default in pse_jax/config.py is this experiment's.
    config = Config(name="coco_pse")
    config.model.init_from = "msra_r50"  # ImageNet weights, downloaded once; a file is fine too
    return config
