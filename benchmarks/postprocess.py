"""Predictions to detections: our compiled program against a NumPy loop as torchvision's, on a CPU.

    python benchmarks/postprocess.py [--size 800x1344] [--batch 16] [--rounds 9] [--json FILE]

Both take the same random logits of 80 classes and distances of every location (22,400 at 800x1344
px) and give up to 100 boxes an image: threshold 0.05, the best 1000 pairs of each level, NMS by
class at an IoU of 0.6. The loop does to one image after another what torchvision's
postprocess_detections does, with a plain greedy NMS; 2,000 pairs an image pass the threshold
(--candidates). Medians of both in turn; whether both found the same boxes is printed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import workload

Found = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # of each image: boxes, scores, labels


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Elementwise."""
    return 1 / (1 + np.exp(-x))


def nms(boxes: np.ndarray, scores: np.ndarray, limit: float) -> list[int]:
    """Greedy non-maximum suppression: indices of the kept boxes, best first."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        top = np.maximum(boxes[best, :2], boxes[rest, :2])
        bottom = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.prod(np.maximum(bottom - top, 0), axis=1)
        order = rest[common <= limit * (areas[best] + areas[rest] - common)]
    return kept


def loop(
    logits: np.ndarray, distances: np.ndarray, points: np.ndarray, levels: np.ndarray, hw: Any
) -> Found:
    """One image after another, one level after another."""
    found = []
    for image_logits, image_distances in zip(logits, distances, strict=True):
        parts = []
        for level in range(5):
            here = levels == level
            scores = sigmoid(image_logits[here]).ravel()
            index = np.flatnonzero(scores > 0.05)
            index = index[np.argsort(-scores[index], kind="stable")[:1000]]
            place, label = index // workload.CLASSES, index % workload.CLASSES
            xy, ltrb = points[here][place], image_distances[here][place]
            boxes = np.concatenate([xy - ltrb[:, :2], xy + ltrb[:, 2:]], axis=1)
            parts.append((boxes.clip(0, (hw[1], hw[0], hw[1], hw[0])), scores[index], label))
        boxes, scores, labels = map(np.concatenate, zip(*parts, strict=True))
        apart = boxes + labels[:, None] * np.float32(2 * max(hw))  # classes do not meet
        kept = nms(apart, scores, 0.6)[:100]
        found.append((boxes[kept], scores[kept], labels[kept]))
    return found


def ours(logits: np.ndarray, distances: np.ndarray, hw: tuple[int, int]) -> Callable[[], Found]:
    """Our program for these predictions, which lie on the device."""
    import jax

    from pse_jax import postprocess
    from pse_jax.config import InferenceConfig
    from pse_jax.models import Predictions

    def one(predictions: Predictions) -> Any:
        whole = jax.numpy.array(hw)
        return postprocess.detections(predictions, whole, True, hw, InferenceConfig())

    program = jax.jit(jax.vmap(one))
    predictions = jax.device_put(Predictions(logits, distances))

    def run() -> Found:
        found = jax.device_get(program(predictions))
        rows = zip(found.boxes_xyxy, found.scores, found.labels, found.valid, strict=True)
        return [(boxes[v], scores[v], labels[v]) for boxes, scores, labels, v in rows]

    return run


def predictions(
    hw: tuple[int, int], batch: int, candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random logits and distances (px), and the points and levels that they belong to."""
    from pse_jax.points import locations

    points, levels = locations(*hw)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (batch, len(points), workload.CLASSES)).astype(np.float32)
    logits += np.float32(workload.shift(logits[0], None, 0.05, candidates))
    spread = rng.uniform(0.5, 4, (batch, len(points), 4))
    strides = np.array(workload.STRIDES)[levels][:, None]
    return logits, (spread * strides).astype(np.float32), points, levels


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=workload.size, default=(800, 1344), help="px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    logits, distances, points, levels = predictions(options.size, options.batch, options.candidates)
    sides: dict[str, Callable[[], Found]] = {
        "ours": ours(logits, distances, options.size),
        "numpy": lambda: loop(logits, distances, points, levels, options.size),
    }
    results = {name: run() for name, run in sides.items()}  # and ours is compiled
    same = all(
        len(a[1]) == len(b[1]) and np.allclose(a[1], b[1], atol=1e-5)
        for a, b in zip(*results.values(), strict=True)
    )
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - began))
    ms = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = ms["numpy"] / ms["ours"]
    found = sum(len(scores) for _, scores, _ in results["ours"]) / options.batch
    print(f"{options.batch} images of {len(points)} locations, {found:.0f} detections an image")
    print(f"{'ours ms':>10}{'NumPy ms':>10}{'ratio':>7}{'same scores':>13}")
    print(f"{ms['ours']:10.1f}{ms['numpy']:10.1f}{ratio:7.2f}{same!s:>13}")
    if options.json:
        options.json.write_text(json.dumps({"ms": ms, "ratio": ratio, "same_scores": same}))


if __name__ == "__main__":
    main()
