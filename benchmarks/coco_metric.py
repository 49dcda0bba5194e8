"""COCO's numbers by hotcoco against pycocotools: python benchmarks/coco_metric.py.

5,000 images with about 7 objects each and 500,000 detections of 80 classes (those of analyze.py),
both from the arrays that an evaluation has in memory, in turn in one process; the arrays of
precision and recall must be the same bits. Needs pip install "pse-jax[fast]".
"""

import argparse
import statistics
import time

import analyze
import numpy as np

from pse_jax import processors
from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.coco import by_hotcoco, by_pycocotools


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    content, rows = analyze.synthetic(options.images, options.detections)
    truth = load_ground_truth(content)
    results = load_results(rows, truth)
    times: dict = {by_hotcoco: [], by_pycocotools: []}
    for _ in range(options.rounds):
        curves = []
        for function, taken in times.items():
            began = time.perf_counter()
            curves.append(function(truth, results))
            taken.append(time.perf_counter() - began)
        for fast, record in zip(*curves, strict=True):
            np.testing.assert_array_equal(fast, record)
    fast, record = map(statistics.median, times.values())
    print(f"{processors.name()}, {len(truth.image_ids)} images, {len(results)} detections")
    print(f"hotcoco {fast:.2f} s, pycocotools {record:.1f} s, ratio {record / fast:.1f}, same bits")


if __name__ == "__main__":
    main()
