"""Trains a detector: python train.py --config configs/coco_pse.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main
from pse_jax.processes import pages

if __name__ == "__main__":
    pages.use_huge_pages()
    sys.exit(main(["train", *sys.argv[1:]]))
