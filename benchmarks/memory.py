"""Memory of a training step: ours, plain and with remat, against torchvision's FCOS.

    python benchmarks/memory.py [--batches 8 16 32]                 # 800x1344 px, for a GPU
    python benchmarks/memory.py --size 320x320 --batches 2 4 --dtype float32 \
        --settings default channels_last --threads 2

The same steps as train_step.py's, a new process for each row. GB are the most that was needed: on a
GPU what its allocator gave out, on a CPU the resident memory of the process after its first step,
with what PyTorch or JAX and its compiler keep. model.remat computes activations twice, to keep
fewer of them.
"""

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import sides
import workload

from pse_jax import processors

STEPS = 3


def peak(side: sides.Side, options: argparse.Namespace) -> dict[str, Any]:
    """GB and seconds a step of one side, or a note why there are none."""
    with contextlib.closing(side):
        try:
            side.ready(options.limit)
            side.run("step", 1, options.limit)
            found = side.run("step", STEPS, options.limit)
        except sides.SideError as error:
            return {"note": str(error)}
    return {"gb": found["memory_gb"], "seconds": found["seconds"] / STEPS}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workload.common(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32], help="images")
    options = parser.parse_args()
    sides.limit_processors(options.threads)
    rows: list[dict[str, Any]] = []

    def measure(batch: int, name: str, side: sides.Side) -> None:
        row = {"batch": batch, "side": name, **peak(side, options)}
        rows.append(row)
        said = row.get("note") or f"{row['gb']:8.2f}{row['seconds']:12.3f}"
        print(f"{batch:>6}  {name:44}{said}", flush=True)

    print(f"{'images':>6}  {'side':44}{'GB':>8}{'s a step':>12}")
    for batch in options.batches:
        for options.remat in (False, True):
            name = "ours, model.remat" if options.remat else "ours"
            measure(batch, name, sides.ours("train", options, [batch]))
        for setting in options.settings:
            side = sides.peer("train", options, [batch], setting)
            measure(batch, f"torchvision {setting}", side)
    facts = {"processor": processors.name(), "size": options.size, "dtype": options.dtype}
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    if options.json:
        Path(options.json).write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
