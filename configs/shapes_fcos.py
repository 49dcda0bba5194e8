"""The baseline on generated data: configs/shapes_pse.py without the association loss.

    python train.py --config configs/shapes_fcos.py

4 min 56 s on 2 CPU cores. Expect AP 51.0, AP75 54.1, PCC 0.506 (seed 0, jax 0.10.2); another CPU
rounds otherwise and gave 51.5.
"""

from pse_jax.config import Config
from pse_jax.configs import shapes_pse


def get_config() -> Config:
    config = shapes_pse.get_config()
    config.name = "shapes_fcos"
    config.loss.association = "none"
    return config
