"""Evaluates a run's checkpoint: python eval.py --workdir runs/coco_pse."""

import sys

from pse_jax.__main__ import main
from pse_jax.processes import pages

if __name__ == "__main__":
    pages.use_huge_pages()
    sys.exit(main(["eval", *sys.argv[1:]]))
