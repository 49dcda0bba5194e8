"""The baseline on generated data: configs/shapes_pse.py without the association loss.

    python train.py --config configs/shapes_fcos.py

About four minutes on 2 CPU cores. Expect AP 51.6, AP75 55.9, PCC 0.495 (seed 0, jax 0.10.2);
another number of cores rounds differently.
"""

from pse_jax.config import Config
from pse_jax.configs import shapes_pse


def get_config() -> Config:
    config = shapes_pse.get_config()
    config.name = "shapes_fcos"
    config.loss.association = "none"
    return config
