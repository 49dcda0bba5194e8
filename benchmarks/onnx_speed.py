"""A detector from the pixels of an image to its boxes: by XLA on the CPU, and as an ONNX file.

    python benchmarks/onnx_speed.py [--workdir DIR] [--threads 2] [--rounds 9] [--json FILE]

Runs ResNet-50-FPN with random weights at 640x640 px and, with --workdir, the detector of a run, in
turn with the same image under both, in one process whose processors are limited to the threads.
Prints the medians and their ratio: the ratio is what counts, machines are noisy. CPU is processor
time of all threads, which other programs on the machine disturb less. With --plain neither has
Winograd's form of the large convolutions (pse_jax/models/winograd.py, --onnx-for any).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP = 2  # rounds, in which XLA compiles


def medians(run: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of wall and of processor time of each, run in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in run}
    for turn in range(rounds + WARM_UP):
        for name, function in run.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if turn >= WARM_UP:
                times[name].append(spent)
    return {
        name: {
            "wall_ms": statistics.median(wall for wall, _ in spent) * 1e3,
            "cpu_ms": statistics.median(cpu for _, cpu in spent) * 1e3,
        }
        for name, spent in times.items()
    }


def compare(
    detector: Any, hw: tuple[int, int], threads: int, rounds: int, plain: bool
) -> dict[str, Any]:
    """One detector under both, at one size of image."""
    import numpy as np
    import onnxruntime

    from pse_jax.export import onnx as export

    began = time.perf_counter()
    model = export.build(detector, for_cpu=not plain)
    content = model.SerializeToString()
    made = time.perf_counter() - began
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    boxes, scores, _, count = (each[0] for each in session.run(None, {"images": image[None]}))
    found = detector(image)
    same = len(found) == count
    return {
        "image_hw": hw,
        "nodes": len(model.graph.node),
        "megabytes": len(content) / 1e6,
        "seconds_to_export": made,
        "detections": [len(found), int(count)],
        "box_difference_px": float(abs(boxes[:count] - found.boxes_xyxy).max()) if same else None,
        "score_difference": float(abs(scores[:count] - found.scores).max()) if same else None,
    } | medians(
        {
            "xla": lambda: detector(image),
            "onnxruntime": lambda: session.run(None, {"images": image[None]}),
        },
        rounds,
    )


def resnet_50() -> Any:
    """The paper's model with random weights, for images of 640x640 px."""
    import jax
    import numpy as np

    from pse_jax import models
    from pse_jax.categories import COCO
    from pse_jax.config import Config, DataConfig, InferenceConfig
    from pse_jax.detector import Detector

    config = Config(
        name="resnet50",
        data=DataConfig(short_side=640, long_side=640),
        inference=InferenceConfig(score_threshold=0.0),  # untrained scores are all low
    )
    model = models.create(config.model, len(COCO))
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> Any:  # compiling `models.init` would take minutes
        name, shape = path[-1].key, leaf.shape
        if name == "kernel":
            return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
        return (np.ones if name.startswith("scale") else np.zeros)(shape, np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    return Detector(config, COCO, jax.device_put(variables))


def main() -> None:
    """Prints a table, a row a detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", help="a run's folder, measured too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="neither with Winograd's form")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it sees processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

    import jax

    jax.config.update("jax_platforms", "cpu")
    import pse_jax
    from pse_jax.models import winograd

    if options.plain:
        winograd.VALUES = float("inf")  # pyright: ignore[reportAttributeAccessIssue]
    rows = {}
    if options.workdir:
        detector = pse_jax.load(options.workdir)
        side = detector.config.data.short_side
        rows[detector.config.name] = compare(
            detector, (side, side), options.threads, 5 * options.rounds, options.plain
        )
    rows["resnet50"] = compare(
        resnet_50(), (640, 640), options.threads, options.rounds, options.plain
    )
    print(f"{'':18}{'nodes':>6}{'MB':>7}{'XLA ms':>9}{'ONNX ms':>9}{'ratio':>7}{'CPU ratio':>11}")
    for name, row in rows.items():
        xla, ort = row["xla"], row["onnxruntime"]
        print(
            f"{name:18}{row['nodes']:6}{row['megabytes']:7.1f}{xla['wall_ms']:9.1f}"
            f"{ort['wall_ms']:9.1f}{ort['wall_ms'] / xla['wall_ms']:7.2f}"
            f"{ort['cpu_ms'] / xla['cpu_ms']:11.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
