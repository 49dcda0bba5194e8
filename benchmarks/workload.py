"""What both sides work on: the same pixels, boxes and shares of candidates. NumPy alone."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 80
BOXES = 7  # objects an image, about COCO's mean
SLOTS = 96  # room for objects an image in our batches, as COCO's training set needs
LEARNING_RATE = 1e-6  # small: random weights at the usual rate soon give no finite numbers
STRIDES = (8, 16, 32, 64, 128)


SETTINGS = ("default", "bf16+channels_last", "bf16+channels_last+compile")  # of torchvision


def common(options: argparse.ArgumentParser) -> None:
    """The options of the scripts that compare both sides."""
    options.add_argument("--size", type=size, default=(800, 1344), help="height x width, px")
    options.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options.add_argument("--strides", choices=("msra", "torchvision"), default="msra", help="ours")
    options.add_argument("--settings", nargs="+", default=SETTINGS, help="of torchvision")
    options.add_argument("--peer-python", default=sys.executable, help="one with torchvision")
    options.add_argument("--candidates", type=int, default=2000, help="of an image, before NMS")
    options.add_argument("--limit", type=float, default=300, help="seconds a side may take to act")
    options.add_argument("--compile-budget", type=float, default=150, help="of torch.compile, s")
    options.add_argument("--seconds", type=float, default=1.0, help="that a block lasts")
    options.add_argument("--threads", type=int, default=0, help="processors; 0: all")
    options.add_argument("--cache", type=Path, help="folder for our compiled programs")
    options.add_argument("--json", type=Path, metavar="FILE")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of both sides."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("work", choices=("train", "detect"))
    options.add_argument("--size", type=size, default=(800, 1344), help="height x width, px")
    options.add_argument("--batches", type=int, nargs="+", default=[1], help="images of each")
    options.add_argument("--candidates", type=int, default=2000, help="over the threshold an image")
    return options


def size(text: str) -> tuple[int, int]:
    """Height and width, px, of "800x1344"; multiples of 32."""
    height, width = map(int, text.split("x"))
    if height % 32 or width % 32 or min(height, width) < 32:
        raise argparse.ArgumentTypeError("height and width must be multiples of 32 px")
    return height, width


def images(hw: tuple[int, int], batch: int) -> np.ndarray:
    """Smooth noise, uint8 RGB [batch, h, w, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (batch, hw[0] // 8, hw[1] // 8, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def objects(hw: tuple[int, int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes xyxy in px, float32 [batch, 7, 4], of sizes as spread as COCO's; labels [batch, 7]."""
    rng = np.random.default_rng(1)
    limits = np.array(hw[::-1], np.float32)
    sides = limits * np.exp(rng.uniform(np.log(0.04), np.log(0.8), (batch, BOXES, 2)))
    corners = rng.uniform(0, 1, (batch, BOXES, 2)) * (limits - sides)
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, (batch, BOXES))


def shift(logits: Any, quality_logits: Any, threshold: float, count: int) -> float:
    """What to add to class logits so that `count` scores pass the threshold.

    Random weights put every score at the prior, so that nothing would be left to suppress. A score
    is sigmoid(logit) or, with a quality, sqrt(sigmoid(logit) sigmoid(quality)).

    Args:
        logits: of the classes, [locations, classes].
        quality_logits: [locations, 1], or None.
        threshold: of the score.
        count: how many (location, class) pairs are to pass.
    """
    needed = np.full((1, 1), threshold)
    if quality_logits is not None:
        needed = threshold**2 * (1 + np.exp(-quality_logits.astype(np.float64)))
    needed = np.clip(needed, 0, 1 - 1e-9)
    missing = np.log(needed / (1 - needed)) - logits  # to pass, of each pair
    count = min(count, missing.size)
    return float(np.partition(missing.ravel(), count - 1)[count - 1])
