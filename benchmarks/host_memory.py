"""Whether the pipeline's memory stays flat: 20,000 images through it, with and without the cache.

    python benchmarks/host_memory.py

Small JPEGs are generated and read again and again, by the code that training runs: plan, threads,
decoding, resizing, jitter, repeats, cache. The resident memory of the process is read 80 times
after a warm-up. Prints a table, writes JSON with --out, and exits with 1 if the memory grows by
more than 2 %. Takes about a minute on 2 CPU cores.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pse_jax.config import Config, DataConfig, OptimizerConfig, ShapesConfig
from pse_jax.data import sources
from pse_jax.data.cache import PixelCache, cached_ends
from pse_jax.data.pipeline import batches
from pse_jax.data.sampling import plan_for

LIMIT = 0.02  # growth after the warm-up
BATCH = 16
READINGS = 80  # after the warm-up
WINDOW = 20  # readings whose median counts: how many rows are in work at a moment is chance


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def readings(config: Config, gigabytes: float) -> Iterator[int]:
    """Resident memory at equal distances after a warm-up of a fifth of all images.

    That is several epochs, so that the cache is as full as it will be.
    """
    dataset = sources.open_train(config.data)
    cache = PixelCache(dataset, gigabytes)
    plan = plan_for(dataset, config)
    warm = len(plan) // 5
    every = (len(plan) - warm) // READINGS
    incoming = batches(dataset, plan, rows=slice(0, BATCH), threads=2, prefetch=2, cache=cache)
    for step, batch in enumerate(incoming, 1):
        del batch
        if step >= warm and (step - warm) % every == 0:
            gc.collect()
            yield resident()


def measure(config: Config, images: int, gigabytes: float) -> dict[str, float]:
    """Medians of windows of readings, in MB: the first, the largest, the last; and the growth."""
    seen = np.array(list(readings(config, gigabytes))) / 1e6
    windows = np.median(seen[: len(seen) // WINDOW * WINDOW].reshape(-1, WINDOW), axis=1)
    return {
        "images": images,
        "cache_gb": gigabytes,
        "first_mb": round(float(windows[0]), 1),
        "most_mb": round(float(windows.max()), 1),
        "last_mb": round(float(windows[-1]), 1),
        "peak_mb": round(float(seen.max()), 1),
        "growth": round(float(windows.max() / windows[0] - 1), 4),
    }


def main() -> None:
    """Runs each case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Config(optimizer=OptimizerConfig(steps=arguments.images // BATCH))
        config.data = DataConfig(
            source="shapes",
            shapes=ShapesConfig(train_images=600, val_images=1, image_size=192),
            cache_dir=folder,
            short_side=192,
            long_side=320,
            jitter=(160, 192, 224),
            repeat_threshold=0.3,
            batch_size=BATCH,
        )
        whole = int(cached_ends(sources.open_train(config.data), 1e9)[-1]) / 1e9
        names = ("first", "most", "last", "peak")
        print(f"{'cache':>10}", *(f"{name:>10}" for name in names), f"{'growth':>8}")
        rows = []
        for gigabytes in (0.0, round(whole / 2, 4)):
            row = measure(config, arguments.images, gigabytes)
            rows.append(row)
            sizes = (f"{row[f'{name}_mb']:.0f} MB" for name in names)
            print(f"{gigabytes * 1e3:>7.0f} MB", *(f"{size:>10}" for size in sizes),
                  f"{row['growth']:>8.2%}")  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(any(row["growth"] > LIMIT for row in rows))


if __name__ == "__main__":
    main()
