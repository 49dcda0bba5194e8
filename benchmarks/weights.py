"""Time and memory of importing a ResNet-50: python benchmarks/weights.py (Linux, needs torch).

Writes random weights as .pth, .safetensors and .pkl in a temporary folder, and imports each in a
process of its own. Memory is the peak of the resident set, pages of mapped files included, over
what it was when everything was imported; the bar is twice the file.
"""

import argparse
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import torch
from safetensors.numpy import save_file

from pse_jax import models
from pse_jax.config import Config
from pse_jax.weights.start import load_into

REPEATS = 3


def convolutions() -> Iterator[tuple[str, str, str, str, tuple[int, ...]]]:
    """The names in torchvision and Detectron of a ResNet-50's convolutions and norms; shapes."""
    yield "conv1.weight", "bn1", "conv1_w", "res_conv1_bn", (64, 3, 7, 7)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for i in range(blocks):
            ours, theirs = f"layer{stage}.{i}", f"res{stage + 1}_{i}_branch"
            shapes = ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            for k, shape in enumerate(shapes, start=1):
                name = f"{theirs}2{'abc'[k - 1]}"
                yield f"{ours}.conv{k}.weight", f"{ours}.bn{k}", f"{name}_w", f"{name}_bn", shape
            if i == 0:
                name, short = f"{theirs}1", f"{ours}.downsample"
                shape = (4 * width, inputs, 1, 1)
                yield f"{short}.0.weight", f"{short}.1", f"{name}_w", f"{name}_bn", shape
            inputs = 4 * width


def write(folder: Path) -> list[Path]:
    """The three files."""
    rng = np.random.default_rng(0)
    torchvision: dict[str, np.ndarray] = {"fc.weight": np.zeros((1000, 2048), np.float32)}
    detectron: dict[str, np.ndarray] = {"fc1000_w": torchvision["fc.weight"]}
    for name, norm, blob, blob_norm, shape in convolutions():
        torchvision[name] = detectron[blob] = rng.standard_normal(shape, np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            torchvision[f"{norm}.{leaf}"] = rng.random(shape[0], np.float32)
        for leaf in ("s", "b"):
            detectron[f"{blob_norm}_{leaf}"] = rng.random(shape[0], np.float32)
    files = [folder / f"resnet50.{suffix}" for suffix in ("pth", "safetensors", "pkl")]
    torch.save({name: torch.from_numpy(array) for name, array in torchvision.items()}, files[0])
    save_file(torchvision, files[1])
    files[2].write_bytes(pickle.dumps(detectron, protocol=4))
    return files


def resident(field: str) -> int:
    """Bytes; VmRSS now, VmHWM at most since the last reset."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"{field}:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


def measure(file: Path) -> None:
    """Prints seconds and bytes of one import."""
    config = Config()
    if file.suffix != ".pkl":
        config.model.stride_in_1x1, config.model.channel_order = False, "rgb"
        config.model.pixel_mean = (123.675, 116.28, 103.53)
        config.model.pixel_std = (58.395, 57.12, 57.375)
    model = models.create(config.model, 80)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    began = time.perf_counter()
    _, report = load_into(config.model, shapes, file)
    seconds = time.perf_counter() - began
    assert len(report.loaded) == 53 * 3
    print(seconds, resident("VmHWM") - before)


def main() -> None:
    """Writes the files and measures each in turn."""
    parser = argparse.ArgumentParser(description="Time and memory of importing a ResNet-50.")
    parser.add_argument("--measure", type=Path, help="one file, in this process")
    file = parser.parse_args().measure
    if file:
        return measure(file)
    print(f"{'file':<14}{'MB':>8}{'seconds':>10}{'MB at most':>12}{'times the file':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for file in write(Path(folder)):
            command = [sys.executable, __file__, f"--measure={file}"]
            runs = [subprocess.check_output(command, text=True).split() for _ in range(REPEATS)]
            seconds, memory = (max(float(run[i]) for run in runs) for i in (0, 1))
            size = file.stat().st_size
            figures = f"{size / 1e6:>8.1f}{seconds:>10.2f}{memory / 1e6:>12.1f}"
            print(f"{file.suffix:<14}{figures}{memory / size:>16.2f}")


if __name__ == "__main__":
    main()
