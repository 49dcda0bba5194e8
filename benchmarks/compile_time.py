"""How long train.py takes to its first step, cold and from the cache of compiled programs.

    python benchmarks/compile_time.py [--config.x.y=VALUE ...]

Starts train.py several times as people do, on configs/coco_pse.py's model with generated images of
320x320 px and random weights, each time in a new folder: first with no cache of compiled programs,
then with the one that the first has left. The clock runs from the start of the process to the line
of its first step. The generated images and the compilation of Python's files are made beforehand.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pse_jax import processors

ROOT = Path(__file__).resolve().parents[1]
FIRST = re.compile(rb"step 1/")
COMPILED = re.compile(rb"compiled 1 of 1 in (\S+):")
CONFIGURATION = {
    "model.init_from": "",
    "data.source": "shapes",
    "data.short_side": 320,
    "data.long_side": 320,
    "data.buckets": 1,
    "data.batch_size": 2,
    "data.shapes.train_images": 64,
    "data.shapes.val_images": 2,
    "optimizer.steps": 1,
    "optimizer.milestones": "()",
    "train.log_every": 1,
}


def start(cache: Path, workdir: Path, overrides: list[str]) -> tuple[float, str]:
    """Seconds to the first step of a run, and of them, as its log says, to compile the step."""
    values = [f"--config.{name}={value}" for name, value in CONFIGURATION.items()]
    words = ["--config=configs/coco_pse.py", f"--workdir={workdir}", *values, *overrides]
    words.append(f"--config.data.cache_dir={cache}")
    began, seen = time.perf_counter(), b""
    process = subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    try:
        while not FIRST.search(seen):
            more = os.read(process.stdout.fileno(), 1 << 16)  # pyright: ignore
            if not more:
                raise SystemExit(seen.decode(errors="replace"))
            seen += more
        compiled = COMPILED.search(seen)
        return time.perf_counter() - began, compiled[1].decode() if compiled else "?"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Prints both, and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of a cold start and a warm one")
    options, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        cache, cold, warm = Path(folder, "cache"), [], []
        start(cache, Path(folder, "first"), overrides)
        for turn in range(options.rounds):
            for program in Path(cache, "xla").iterdir():
                program.unlink()
            cold.append(start(cache, Path(folder, f"cold{turn}"), overrides))
            warm.append(start(cache, Path(folder, f"warm{turn}"), overrides))
    print(f"{processors.name()}, {os.cpu_count()} threads, Python {sys.version.split()[0]}")
    for name, starts in (("cold", cold), ("warm", warm)):
        listed = ", ".join(f"{seconds:.1f} s (the step {step})" for seconds, step in starts)
        print(f"{name}: {listed}")
    one, other = (statistics.median(seconds for seconds, _ in s) for s in (cold, warm))
    print(f"to the first step: cold {one:.1f} s, warm {other:.1f} s, ratio {one / other:.1f}")


if __name__ == "__main__":
    main()
