"""Training from JPEGs on disk against the same step on a batch that stays on the device.

    python benchmarks/end_to_end.py                       # 16 x 800x1088 px, for a GPU
    python benchmarks/end_to_end.py --short-side 128 --batch 2 --dtype float32 --steps 4 --images 8

Writes 640x480 JPEGs of about COCO's size in bytes into a temporary folder, with annotations in
COCO's format, and trains on them with what train.py is made of: its plan, pipeline, transfer and
step, and as many steps ahead of the device as train.py allows. Prints images a second of both and
their ratio. The clock starts when the first batches are taken, so that the pipeline is under way;
files are in the system's cache, as they were just written.
"""

import argparse
import collections
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fcos_flops
import jax
import numpy as np
import random_model
import rows
import workload
from PIL import Image

from pse_jax import distributed, models
from pse_jax.config import Config
from pse_jax.data import sampling, sources
from pse_jax.data.pipeline import batches
from pse_jax.training import optimizer
from pse_jax.training.reporting import AHEAD
from pse_jax.training.step import TrainState, make_train_step

HW = (480, 640)  # px, of the photos
QUALITY = 90  # of their JPEGs: about 150 kB each, as COCO's
TAKEN = 2  # batches before the clock starts


def write_images(root: Path, count: int) -> None:
    """A data set in COCO's format: so many photos with 7 objects each."""
    folder = root / "train2017"
    folder.mkdir(parents=True)
    (root / "annotations").mkdir()

    def write(index: int) -> None:
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (HW[0] // 16, HW[1] // 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(HW[::-1], Image.Resampling.BICUBIC))
        pixels = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:06d}.jpg", quality=QUALITY)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))
    boxes, labels = workload.objects(HW, count)
    annotations = []
    for index, (corners, classes) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        for (x1, y1, x2, y2), label in zip(corners, classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            number = len(annotations) + 1
            annotations.append({"id": number, "image_id": index, "category_id": label + 1})
            annotations[-1] |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
    content = {
        "images": [
            {"id": i, "file_name": f"{i:06d}.jpg", "height": HW[0], "width": HW[1]}
            for i in range(count)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": f"class {i + 1}"} for i in range(workload.CLASSES)],
    }
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))


def incoming(config: Config) -> Iterator[dict[str, np.ndarray]]:
    """The batches that train.py would see."""
    train_set = sources.open_train(sources.locate(config.data))
    plan = sampling.plan_for(train_set, config)
    return batches(
        train_set,
        plan,
        rows=distributed.local_rows(config.data.batch_size),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )


def measure(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds a step of both, and what else there is to say."""
    mesh = distributed.make_mesh()
    model = models.create(config.model, workload.CLASSES)
    sgd = optimizer.create(config.optimizer, config.model)
    step = make_train_step(model, sgd, config, mesh)
    state = distributed.to_every_device(random_model.state(config, sgd), mesh)
    began = time.perf_counter()
    coming = incoming(config)
    first = [next(coming) for _ in range(TAKEN)]
    found_s = time.perf_counter() - began
    kept = distributed.to_devices(first[0], mesh)
    began = time.perf_counter()
    state, metrics = step(state, kept)
    jax.block_until_ready(metrics)
    first_s = time.perf_counter() - began
    state, kept_s, _ = steps(step, state, iter([kept] * 3), lambda batch: batch)  # warm-up
    state, kept_s, _ = steps(step, state, iter([kept] * options.steps), lambda batch: batch)
    # The pipeline had this time to run ahead: what it has prepared by now is not counted.
    ready = config.data.prefetch + 1
    to_devices = lambda batch: distributed.to_devices(batch, mesh)  # noqa: E731
    state, _, _ = steps(step, state, itertools.islice(coming, ready), to_devices)
    state, coming_s, waited_s = steps(step, state, coming, to_devices)
    if int(state.skipped):
        raise FloatingPointError(f"{int(state.skipped)} steps were not finite")
    return {
        "shape_hw": first[0]["image"].shape[1:3],
        "kept_s": kept_s,
        "coming_s": coming_s,
        "share_waiting": waited_s / coming_s,
        "first_batches_s": found_s,
        "first_s": first_s,
    }


def steps(
    step: Callable, state: TrainState, given: Iterator[Any], place: Callable[[Any], Any]
) -> tuple[TrainState, float, float]:
    """Takes a step a batch; returns the state, and seconds a step: all, and waiting for data."""
    running: collections.deque[Any] = collections.deque()
    began, waited, count = time.perf_counter(), 0.0, 0
    while True:
        asked = time.perf_counter()
        batch = next(given, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        state, metrics = step(state, place(batch))
        running.append(metrics)
        if len(running) > AHEAD:
            jax.block_until_ready(running.popleft())
        count += 1
    jax.block_until_ready((state, list(running)))
    return state, (time.perf_counter() - began) / count, waited / count


def main() -> None:
    """Prints both rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short-side", type=int, default=800, help="px, of the resized image")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--steps", type=int, default=40, help="that are measured, of each")
    parser.add_argument("--images", type=int, default=320, help="that are different")
    parser.add_argument("--data-threads", type=int, default=8, help="that decode and resize")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--cache", type=Path, help="folder for our compiled programs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.strides = "msra"
    if options.cache:
        distributed.use_compilation_cache(options.cache)
    config = random_model.configuration(options)
    config.data.batch_size, config.data.threads = options.batch, options.data_threads
    config.data.short_side, config.data.long_side = options.short_side, options.short_side * 5 // 3
    config.optimizer.steps = TAKEN + config.data.prefetch + 1 + options.steps
    with tempfile.TemporaryDirectory() as folder:
        config.data.root = folder
        write_images(Path(folder), options.images)
        paths = list(Path(folder, "train2017").iterdir())
        kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e3
        found = measure(config, options)
    report(found, options, kilobytes)


def report(found: dict[str, Any], options: argparse.Namespace, kilobytes: float) -> None:
    """Prints the rows and writes the file."""
    height, width = found["shape_hw"]
    question = f"epoch {options.batch}x{height}x{width}"
    table = rows.Table(options.json)
    device = jax.devices()[0]
    table.facts |= {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": f"jax {jax.__version__}",
        "photos": f"{options.images} JPEGs of {HW[1]}x{HW[0]} px, {kilobytes:.0f} kB each",
        "data_threads": options.data_threads,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
    }
    flops = options.batch * fcos_flops.flops((height, width), stride_in_1x1=True)[1]
    asked = rows.Question(question, "", options.batch, flops, flops)
    kept = rows.Row(question, "batch kept on the device", first_s=found["first_s"])
    kept.timed(found["kept_s"] * 1e3, asked, flops)
    coming = rows.Row(question, "JPEGs through the pipeline")
    coming.timed(found["coming_s"] * 1e3, asked, flops)
    coming.note = (
        f"{found['kept_s'] / found['coming_s']:.3f} of the other's speed, "
        f"{found['share_waiting']:.1%} of the time waiting for data"
    )
    coming.more = {"first_batches_s": found["first_batches_s"]}
    print(rows.HEAD)
    table.add(kept)
    table.add(coming)


if __name__ == "__main__":
    main()
