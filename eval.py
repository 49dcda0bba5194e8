"""Evaluates a run's checkpoint: python eval.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
