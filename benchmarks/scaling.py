"""How far training scales, by a model of one step, with published and with our own measured times.

    python benchmarks/scaling.py             # the tables of docs/pods.md
    python benchmarks/scaling.py --measure   # our step and gloo's all-reduce on this CPU

The model, in ms, for n devices with B images each:

    T = (a + b B + max(0, T_all_reduce - 0.7 T_backward)) (1 + 0.01 log2 n)

a is what a step costs whatever its batch, b an image, T_backward = 0.65 b B (convolutions: the
backward pass is 1.82 times the forward), of which 70 % can hide the exchange of gradients.
"""

import argparse
import dataclasses
import math
import os
import socket
import subprocess
import sys
import time

BACKWARD = 1.82 / 2.82  # of a step's FLOPs, with the stem and the first stage frozen
GRADIENTS = 32.02e6 * 4  # bytes: float32, ResNet-50-FPN


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the model takes of a kind of device, and where that comes from."""

    name: str
    fixed_ms: float  # a
    image_ms: float  # b
    all_reduce_ms: float  # of 128 MB, between the slowest neighbours
    source: str


# FCOS R-50, 800 x 1344, bfloat16. None of these was measured with this code.
PUBLISHED = (
    Machine("H200, NVLink", 5.0, 3.34, 0.57, "fit of MLPerf's RetinaNet results"),
    Machine("H200, 400 Gb/s a GPU", 5.0, 3.34, 5.1, "the same, data sheet of the network"),
    Machine("TPU v5e", 5.0, 15.2, 1.4, "assumed: 37 % of peak"),
    Machine("TPU v5p", 5.0, 6.36, 0.5, "assumed: 37 % of peak"),
    Machine("TPU v5e slices over DCN", 5.0, 15.2, 82.0, "assumed: 25 GB/s a host of 8 chips"),
)


def step_ms(machine: Machine, images: float, devices: int) -> float:
    """Milliseconds of a step with so many images a device."""
    compute = machine.fixed_ms + machine.image_ms * images
    exchange = machine.all_reduce_ms if devices > 1 else 0.0
    exposed = max(0.0, exchange - 0.7 * BACKWARD * machine.image_ms * images)
    return (compute + exposed) * (1 + 0.01 * math.log2(devices))


def efficiency(machine: Machine, images: float, devices: int, alone: float) -> float:
    """Images a second and device, as a share of one device's with `alone` images."""
    rate = images / step_ms(machine, images, devices)
    return rate * step_ms(machine, alone, 1) / alone


def table(machine: Machine, alone: int = 16) -> str:
    """Rows: images a device; columns: devices. Images a second, and the efficiency."""
    counts = (1, 8, 64, 256)
    lines = [f"{machine.name} ({machine.source})"]
    lines += ["  images a device" + "".join(f"{n:>18}" for n in counts)]
    for images in (16, 8, 4, 2, 1):
        cells = ""
        for n in counts:
            rate = 1e3 * n * images / step_ms(machine, images, n)
            cells += f"{rate:11,.0f}/s {efficiency(machine, images, n, alone):5.2f}"
        lines.append(f"  {images:<15}" + cells)
    return "\n".join(lines)


def measure_step() -> tuple[float, float]:
    """What a step costs here whatever its batch, and an image: R-50, 128 x 128, float32."""
    import jax
    import numpy as np

    from pse_jax import distributed, models
    from pse_jax.config import Config
    from pse_jax.training import optimizer
    from pse_jax.training.step import create_state, make_train_step

    config, mesh = Config(), distributed.make_mesh()
    model = models.create(config.model, 80)
    sgd = optimizer.create(config.optimizer, config.model)
    shapes = jax.eval_shape(lambda: create_state(model, sgd, jax.random.key(0)))
    step, times = make_train_step(model, sgd, config, mesh), {}
    for images in (1, 4):
        state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        state = distributed.to_every_device(state, mesh)
        batch = {
            "image": np.zeros((images, 128, 128, 3), np.uint8),
            "size_hw": np.full((images, 2), 128, np.int32),
            "image_valid": np.ones(images, bool),
            "boxes": np.tile(np.array([16, 16, 96, 96], np.float32), (images, 8, 1)),
            "labels": np.zeros((images, 8), np.int32),
            "box_valid": np.ones((images, 8), bool),
            "unreadable": np.zeros(images, bool),
        }
        taken = []
        for _ in range(6):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, distributed.to_devices(batch, mesh)))
            taken.append((time.perf_counter() - began) * 1e3)
        times[images] = min(taken[1:])
        print(f"our step, {images} image(s) of 128 x 128: {times[images]:.0f} ms", flush=True)
    image = (times[4] - times[1]) / 3
    return times[1] - image, image


EXCHANGE = """
import sys, time, jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
mine = np.ones((1, int(sys.argv[3]) // 4), np.float32)
given = jax.make_array_from_process_local_data(split, mine)
add = jax.jit(lambda x: x.sum(0), out_shardings=NamedSharding(mesh, PartitionSpec()))
for _ in range(6):
    began = time.perf_counter()
    jax.block_until_ready(add(given))
    print((time.perf_counter() - began) * 1e3, flush=True)
"""


def measure_all_reduce() -> float:
    """Milliseconds of gloo's sum of 128 MB between two processes on this machine, least of five."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGE, address, str(index), str(int(GRADIENTS))],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    times = [float(line) for line in printed[0].splitlines() if "[" not in line]
    return min(times[1:])


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure this CPU")
    machines = PUBLISHED
    if parser.parse_args().measure:
        exchange = measure_all_reduce()
        print(f"gloo, 128 MB between two processes: {exchange:.0f} ms")
        machines = (Machine("this CPU, gloo", *measure_step(), exchange, "measured"),)
    print("\n\n".join(table(machine) for machine in machines))


if __name__ == "__main__":
    main()
