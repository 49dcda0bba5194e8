"""Images a second that the host can prepare: our pipeline against the loader people write first.

    python benchmarks/input_pipeline.py [--peer-python PATH]

Ours is what train.py trains from: JPEGs of 640x480 px become uint8 batches of 800x1088, decoded,
resized, flipped and padded in threads; the device normalises. The other does what torchvision's
reference does: PIL decodes, the image becomes a float tensor, is normalised and interpolated to
800x1066, in a PyTorch DataLoader with 0 or 2 worker processes. In turn, medians, from the first
batch to the last; files are in the system's cache. Needs PyTorch, for the other side.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import end_to_end

from pse_jax import processors
from pse_jax.config import Config
from pse_jax.data import transforms

BATCH = 16
WORKERS = (0, 2)  # of the DataLoader

PEER = """
import json, sys, time
import numpy as np, torch
from pathlib import Path
from PIL import Image
folder, batch, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
files = sorted(folder.glob("*.jpg"))
mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(files)

    def __getitem__(self, index):
        pixels = np.array(Image.open(files[index]).convert("RGB"))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
        image = (image - mean) / std
        size = (800, 1066)
        return torch.nn.functional.interpolate(image[None], size, mode="bilinear")[0]

loader = torch.utils.data.DataLoader(Images(), batch, num_workers=workers)
for line in sys.stdin:
    batches = iter(loader)
    next(batches)
    began = time.perf_counter()
    count = sum(len(images) for images in batches)
    print(json.dumps(count / (time.perf_counter() - began)), flush=True)
"""


def ours(config: Config) -> float:
    """Images a second."""
    coming = end_to_end.incoming(config)
    next(coming)
    began = time.perf_counter()
    count = sum(len(batch["image"]) for batch in coming)
    return count / (time.perf_counter() - began)


@contextlib.contextmanager
def peer(python: str, folder: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A process that answers every line with its images a second, and ends when there are none."""
    words = [python, "-c", PEER, str(folder), str(BATCH), str(workers)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def main() -> None:
    """Prints all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of our pipeline")
    parser.add_argument("--peer-python", default=sys.executable, help="one with PyTorch")
    options = parser.parse_args()
    config = Config()
    config.data.batch_size, config.data.threads = BATCH, options.threads
    config.optimizer.steps, config.optimizer.milestones = options.images // BATCH, ()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config.data.root = folder
        end_to_end.write_images(Path(folder), options.images)
        photos = Path(folder, "train2017")
        peers = [stack.enter_context(peer(options.peer_python, photos, n)) for n in WORKERS]
        mine, theirs = [], [[] for _ in WORKERS]
        for _ in range(options.rounds):
            mine.append(ours(config))
            for process, rates in zip(peers, theirs, strict=True):
                assert process.stdin and process.stdout
                print(file=process.stdin, flush=True)
                rates.append(json.loads(process.stdout.readline()))
    rate = statistics.median(mine)
    print(f"{processors.name()}, {os.cpu_count()} threads, {options.images} images")
    decoder = "OpenCV" if transforms.cv2 else "Pillow"
    print(f"ours ({decoder}, {options.threads} threads): {rate:.0f} images/s")
    for workers, rates in zip(WORKERS, theirs, strict=True):
        other = statistics.median(rates)
        print(f"DataLoader, {workers} workers: {other:.0f} images/s, ratio {rate / other:.1f}")


if __name__ == "__main__":
    main()
