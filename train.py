"""Trains a detector: python train.py --config configs/coco_pse.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
