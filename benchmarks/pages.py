"""A training step on a CPU with memory in pages of 2 MB, as train.py asks for, and of 4 kB.

    python benchmarks/pages.py --size 320x320 --batch 2

The step of train_step.py, in two processes in turn; the ratio is the time with small pages over
that with huge ones. Linux and glibc only (pse_jax/processes/pages.py).
"""

import argparse
import contextlib

import sides
import workload

from pse_jax.processes.pages import SETTING

ROUNDS = 7


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=workload.size, default=(320, 320), help="height x width, px")
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a block lasts")
    parser.add_argument("--limit", type=float, default=300, help="seconds a side may take to act")
    options = parser.parse_args()
    options.dtype, options.strides, options.cache = "float32", "msra", None
    options.candidates = 0  # of detection, which is not measured
    with contextlib.ExitStack() as stack:
        both = []
        for huge in (1, 0):
            variables = {"GLIBC_TUNABLES": f"{SETTING}={huge}"}
            side = sides.ours("train", options, [options.batch], variables)
            both.append(stack.enter_context(contextlib.closing(side)))
            facts = side.ready(options.limit)
            side.run("step", 1 + sides.WARM_UP, options.limit)  # the first compiles
        times = sides.in_turn(both, "step", ROUNDS, options.seconds, options.limit)
    height, width = options.size
    print(f"{sides.processor()}, {facts['versions']}, {options.batch}x{height}x{width}, float32")
    print(f"huge pages {times[0]:.0f} ms, small {times[1]:.0f} ms, ratio {times[1] / times[0]:.2f}")


if __name__ == "__main__":
    main()
