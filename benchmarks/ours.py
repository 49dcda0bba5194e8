"""Our side of train_step.py and inference.py: the step that train.py compiles, and the detector's.

Started by those; see sides.py.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import random_model
import sides
import workload

from pse_jax import distributed, models
from pse_jax.categories import COCO
from pse_jax.detector import Detector
from pse_jax.training import optimizer
from pse_jax.training.step import make_train_step


def train(options: argparse.Namespace) -> dict[str, sides.Block]:
    """Training steps on one batch that is on the device."""
    config, mesh = random_model.configuration(options), distributed.make_mesh()
    model = models.create(config.model, workload.CLASSES)
    sgd = optimizer.create(config.optimizer, config.model)
    state = distributed.to_every_device(random_model.state(config, sgd), mesh)
    batch = distributed.to_devices(batch_of(options.size, options.batches[0]), mesh)
    step = make_train_step(model, sgd, config, mesh)

    def block(steps: int) -> sides.Reply:
        nonlocal state
        began = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds = time.perf_counter() - began
        if int(state.skipped):
            raise FloatingPointError(f"{int(state.skipped)} steps were not finite")
        return {"seconds": seconds, "loss": float(metrics["loss"]), **memory()}

    return {"step": block}


def batch_of(hw: tuple[int, int], batch: int) -> dict[str, np.ndarray]:
    """A batch as the pipeline makes it, with as many slots for boxes."""
    found, labels = workload.objects(hw, batch)
    boxes = np.zeros((batch, workload.SLOTS, 4), np.float32)
    classes = np.zeros((batch, workload.SLOTS), np.int32)
    boxes[:, : workload.BOXES], classes[:, : workload.BOXES] = found, labels
    real = np.arange(workload.SLOTS) < workload.BOXES
    return {
        "image": workload.images(hw, batch),
        "size_hw": np.full((batch, 2), hw, np.int32),
        "image_valid": np.ones(batch, bool),
        "boxes": boxes,
        "labels": classes,
        "box_valid": np.tile(real, (batch, 1)),
        "unreadable": np.zeros(batch, bool),
    }


def detect(options: argparse.Namespace) -> dict[str, sides.Block]:
    """Calls, from uint8 pixels on the host or the device to boxes on the host."""
    config = random_model.configuration(options)
    values = random_model.livelier(random_model.variables(config), config, options)
    detector = Detector(config, COCO, jax.device_put(values))
    blocks = {}
    for count in options.batches:
        batch = {
            "image": workload.images(options.size, count),
            "size_hw": np.full((count, 2), options.size, np.int32),
            "original_hw": np.full((count, 2), options.size, np.int32),
            "image_valid": np.ones(count, bool),
        }
        blocks[f"{count} device"] = calls(detector, jax.device_put(batch))
        blocks[f"{count} host"] = calls(detector, batch)
    return blocks


def calls(detector: Detector, batch: dict[str, Any]) -> sides.Block:
    """A block of calls of the detector; it compiles in the first."""

    def block(steps: int) -> sides.Reply:
        began = time.perf_counter()
        for _ in range(steps):
            found = jax.device_get(detector.detect(batch))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "detections": float(found.valid.sum(1).mean()), **memory()}

    return block


def memory() -> dict[str, float]:
    """GB that was needed at most: of the device, or of the system's memory on a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats["peak_bytes_in_use"] / 1e9 if "peak_bytes_in_use" in stats else None
    return {"memory_gb": sides.peak_memory_gb() if peak is None else peak}


def peak_flops() -> float:
    """FLOP/s of a large matrix product, bfloat16 (float32 on a CPU): the best of some."""
    on_cpu = jax.default_backend() == "cpu"
    n, times = (1024, 1) if on_cpu else (8192, 10)
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.float32 if on_cpu else jnp.bfloat16)
    multiply, best = jax.jit(jnp.matmul), math.inf
    for turn in range(8):
        began = time.perf_counter()
        for _ in range(times):
            y = multiply(x, x)
        jax.block_until_ready(y)
        best = min(best, time.perf_counter() - began) if turn else best
    return 2 * n**3 * times / best


def build(options: argparse.Namespace) -> tuple[dict[str, sides.Block], dict[str, Any]]:
    """The work, and what there is to say about it."""
    work: Callable = {"train": train, "detect": detect}[options.work]
    device = jax.devices()[0]
    facts = {
        "peak_tflops": peak_flops() / 1e12,
        "platform": device.platform,
        "device": device.device_kind,
        "versions": f"jax {jax.__version__}",
    }
    return work(options), facts


def main() -> None:
    """Serves."""
    parser = workload.parser(__doc__)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--strides", choices=("msra", "torchvision"), default="msra")
    parser.add_argument("--cache", type=Path, help="folder of compiled programs")
    parser.add_argument("--remat", action="store_true", help="compute activations twice")
    options = parser.parse_args()
    if options.cache:
        distributed.use_compilation_cache(options.cache)
    sides.serve(lambda: build(options))


if __name__ == "__main__":
    main()
