"""Evaluates a run's checkpoint: python eval.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main
from pse_jax.processes import huge_pages

if __name__ == "__main__":
    huge_pages.use()
    sys.exit(main(["eval", *sys.argv[1:]]))
