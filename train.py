"""Trains a detector: python train.py --config configs/coco_pse.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main
from pse_jax.processes import huge_pages

if __name__ == "__main__":
    huge_pages.use()
    sys.exit(main(["train", *sys.argv[1:]]))
