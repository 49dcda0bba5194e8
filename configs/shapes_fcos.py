"""The baseline on generated data: configs/shapes_pse.py without the association loss.

    python train.py --config configs/shapes_fcos.py

About five minutes on 2 CPU cores. Expect AP 50.4, AP75 53.7, PCC 0.487 (seed 0, jax 0.10.2);
another number of cores or version rounds differently: single runs gave 49.7 to 54.2.
"""

from pse_jax.config import Config
from pse_jax.configs import shapes_pse


def get_config() -> Config:
    config = shapes_pse.get_config()
    config.name = "shapes_fcos"
    config.loss.association = "none"
    return config
