"""How often the intervals of `analyze` hold the truth: python benchmarks/bootstrap.py.

Two detectors with the same boxes and other scores look at samples of images from one population;
the truth is their difference on very many images. Prints the share of samples whose 95 % interval
holds it, of each metric, and the time of a resample.
"""

import argparse
import time

import numpy as np

from pse_jax.categories import Categories
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.comparison import METRICS, Measures, compare
from pse_jax.evaluation.measure import Examined, examine
from pse_jax.evaluation.weighted import Objects

CLASSES = 3
SHOWN = ("AP", "AP50", "AP75", "PCC", "inversion_rate", "LaECE", "f1")


def sample(images: int, seed: int) -> list[Examined]:
    """Images of a few objects far apart, each found once or twice, and stray boxes."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(1, 6, images))
    category, hard = rng.integers(0, CLASSES, len(image)), rng.random(images)[image]
    cell = np.arange(len(image)) - np.searchsorted(image, image)
    size = rng.uniform(30, 90, (len(image), 2))
    boxes = np.concatenate([np.stack([200.0 * cell, 0 * cell], axis=1), size], axis=1)
    names = Categories(tuple(range(1, CLASSES + 1)), tuple("abc"))
    truth = GroundTruth(
        "sample", names, np.arange(images), ("",) * images, image, category, boxes,
        size.prod(axis=1), np.zeros(len(image), bool),
    )  # fmt: skip
    which = np.repeat(np.arange(len(image)), rng.integers(0, 3, len(image)))
    noise = rng.normal(size=(len(which), 4)) * (0.03 + 0.2 * hard[which, None])
    moved = boxes[which] + noise * np.tile(size[which], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], 5)
    stray = np.repeat(np.arange(images), rng.integers(0, 4, images))
    far = np.tile([5000.0, 5000.0, 50.0, 50.0], (len(stray), 1))
    found_image = np.concatenate([image[which], stray])
    found_category = np.concatenate([category[which], rng.integers(0, CLASSES, len(stray))])
    fit = np.concatenate([np.exp(-4 * np.abs(noise).mean(axis=1)), np.full(len(stray), 0.3)])
    found_boxes = np.concatenate([moved, far])
    examined = []
    for spread in (0.25, 0.35):
        scores = np.clip(fit + spread * rng.normal(size=len(fit)), 0, 1)
        results = Results("detector", found_image, found_category, found_boxes, scores)
        examined.append(examine(truth, results))
    return examined


def main() -> None:
    """Prints the coverage and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    many = sample(20_000, 10**6)
    weights = np.ones(20_000, np.int64)
    objects = Objects(many[0].ground_truth)(weights)
    values = [Measures(one)(weights, objects)[0] for one in many]
    inside = {name: [0, 0] for name in SHOWN}
    start = time.process_time()
    for seed in range(options.samples):
        found = compare(sample(options.images, seed), "ab", resamples=options.resamples, seed=seed)
        for name in SHOWN:
            own = values[1][METRICS.index(name)]
            both = own - values[0][METRICS.index(name)]
            for place, (true, interval) in enumerate(
                [(own, found.metric(name, 1)), (both, found.metric(name, 1, 0))]
            ):
                inside[name][place] += interval.low <= true <= interval.high
    seconds = time.process_time() - start
    print(f"{options.samples} samples of {options.images} images, {options.resamples} resamples")
    print(f"{'metric':<16}{'truth':>8}{'covered':>9}{'difference':>12}{'covered':>9}")
    for name, (own, both) in inside.items():
        value = values[1][METRICS.index(name)]
        gap = value - values[0][METRICS.index(name)]
        shares = [f"{100 * count / options.samples:.0f} %" for count in (own, both)]
        print(f"{name:<16}{value:>8.3f}{shares[0]:>9}{gap:>+12.3f}{shares[1]:>9}")
    each = seconds / options.samples / options.resamples / 2
    print(f"CPU time of a resample of one detector: {each * 1000:.2f} ms")


if __name__ == "__main__":
    main()
