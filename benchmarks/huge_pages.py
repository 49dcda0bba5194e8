"""A training step on a CPU with memory in pages of 2 MB, as train.py asks for, and of 4 kB.

    python benchmarks/huge_pages.py --size 320x320 --batch 2

The step of train_step.py, in two processes in turn; the ratio is the time with small pages over
that with huge ones. Linux and glibc only (pse_jax/processes/huge_pages.py).
"""

import argparse
import contextlib
import statistics

import sides
import workload

from pse_jax import processors
from pse_jax.processes.huge_pages import SETTING

ROUNDS = 5


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=workload.size, default=(320, 320), help="height x width, px")
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--steps", type=int, default=4, help="of a block")
    parser.add_argument("--limit", type=float, default=300, help="seconds a side may take to act")
    options = parser.parse_args()
    options.dtype, options.strides, options.cache = "float32", "msra", None
    options.candidates = 0  # of detection, which is not measured
    with contextlib.ExitStack() as stack:
        both, blocks = [], ([], [])
        for huge in (1, 0):
            variables = {"GLIBC_TUNABLES": f"{SETTING}={huge}"}
            side = sides.ours("train", options, [options.batch], variables)
            both.append(stack.enter_context(contextlib.closing(side)))
            facts = side.ready(options.limit)
            side.run("step", 1 + sides.WARM_UP, options.limit)  # the first compiles
        for _ in range(ROUNDS):
            for side, taken in zip(both, blocks, strict=True):
                side.run("step", 1, options.limit)  # memory that lay idle is slower to get, once
                block = side.run("step", options.steps, options.limit)
                taken.append(block["seconds"] / options.steps)
    times = [statistics.median(taken) * 1e3 for taken in blocks]
    height, width = options.size
    print(f"{processors.name()}, {facts['versions']}, {options.batch}x{height}x{width}, float32")
    print(f"huge pages {times[0]:.0f} ms, small {times[1]:.0f} ms, ratio {times[1] / times[0]:.2f}")


if __name__ == "__main__":
    main()
