"""How long `check` takes for 100,000 annotations, and to read images: python benchmarks/check.py.

Both parts are the real command on files in a temporary folder. The annotations lie in images of
64x48 px, which take no time to decode, but are assigned on the canvases of 800/1333 px. The images
of the second part are 640x480 px, with one box each; beside them, in the same run, the training
pipeline reads, resizes and pads the same files. Exits with 1 if the annotations take over a minute.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pse_jax.config import DataConfig
from pse_jax.data import coco
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import EvalPlan, buckets_for

LIMIT = 60.0  # seconds


def write(folder: Path, annotations: int, images: int, hw: tuple[int, int]) -> list[str]:
    """A data set of noise, a hundred different pictures; returns the flags of `check`."""
    rng = np.random.default_rng(0)
    height, width = hw
    (folder / "images").mkdir(parents=True)
    for i in range(images):
        file, first = folder / "images" / f"{i}.jpg", folder / "images" / f"{i % 100}.jpg"
        if file == first:
            smooth = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            stream = io.BytesIO()
            Image.fromarray(smooth).resize((width, height)).save(stream, "JPEG", quality=90)
            file.write_bytes(stream.getvalue())
        else:
            os.link(first, file)
    sides = np.exp(rng.uniform(np.log(0.03), 0, (annotations, 2))) * (width, height)
    corners = rng.uniform(0, 1, (annotations, 2)) * ((width, height) - sides)
    boxes = np.concatenate([corners, sides], axis=1).round(2)
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": width, "height": height}
            for i in range(images)
        ],
        "annotations": [
            {"id": n, "image_id": n % images, "category_id": n % 80, "bbox": box}
            for n, box in enumerate(boxes.tolist())
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(80)],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return [f"--annotations={folder / 'instances.json'}", f"--images={folder / 'images'}"]


def seconds(flags: list[str]) -> float:
    """Wall time of `check`, start and all."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "pse_jax", "check", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def pipeline(folder: Path) -> float:
    """Seconds in which the training's pipeline prepares the same images."""
    config = DataConfig()
    dataset = coco.load(folder / "instances.json", folder / "images")
    plan = EvalPlan(buckets_for(dataset.sizes_hw, config), 16)
    began = time.perf_counter()
    for _ in batches(dataset, plan, rows=slice(0, 16), threads=config.threads, prefetch=4):
        pass
    return time.perf_counter() - began


def main() -> int:
    """Prints a table; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=2_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = seconds(write(folder / "start", 20, 20, (48, 64)))
        many = seconds(
            write(folder / "many", options.annotations, options.annotations // 7, (48, 64))
        )
        large = seconds(write(folder / "large", options.images, options.images, (480, 640)))
        ours, theirs = options.images / (large - start), options.images / pipeline(folder / "large")
    print(f"check of {options.annotations:,} annotations in {options.annotations // 7:,} images")
    print(f"  {many:6.1f} s, {start:.1f} s of them to start")
    print(f"check of {options.images:,} images of 640x480 px")
    print(f"  {ours:6.0f} images/s; the pipeline, which resizes them too, {theirs:.0f}")
    values = {
        "annotations_s": many,
        "start_s": start,
        "check_img_s": ours,
        "pipeline_img_s": theirs,
    }
    print(json.dumps(values))
    return int(many > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
