"""The floating-point operations of FCOS with a ResNet-50-FPN, from the shapes of its layers.

    python benchmarks/fcos_flops.py --size 800x1344

Convolutions alone: normalisation, activations, losses and the optimiser are under 1 %. A multiply
and an add are two operations. The backward pass of a convolution is as much again for the gradient
of its weights, if they are trained, and for that of its input, if something trained lies before it;
the stem and the first stage are frozen.
"""

import argparse
import dataclasses
from collections.abc import Iterator

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and width of ResNet-50
CHANNELS = 256  # of the pyramid and the head
TOWER = 4  # convolutions in each of the two towers


@dataclasses.dataclass(frozen=True)
class Conv:
    """Multiply-adds for one image, and how many of its two gradients are computed."""

    macs: int
    gradients: int = 2


def backbone(h: int, w: int, stride_in_1x1: bool) -> Iterator[Conv]:
    """The convolutions of ResNet-50, bottlenecks; of an image of h x w px, multiples of 32."""
    yield Conv(h // 2 * w // 2 * 49 * 3 * 64, 0)
    h, w, inputs = h // 4, w // 4, 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            before, h, w = h * w, -(-h // stride), -(-w // stride)
            first = 0 if not stage else 1 if stage == 1 and not block else 2
            yield Conv((h * w if stride_in_1x1 else before) * inputs * width, first)
            yield Conv(h * w * 9 * width * width, 2 if stage else 0)
            yield Conv(h * w * width * 4 * width, 2 if stage else 0)
            if not block:
                yield Conv(h * w * inputs * 4 * width, first)
            inputs = 4 * width


def pyramid_and_head(h: int, w: int, classes: int, outputs: int) -> Iterator[Conv]:
    """The convolutions of the pyramid and of the head, on each of five levels."""
    areas = [-(-h // s) * -(-w // s) for s in (8, 16, 32, 64, 128)]
    square = CHANNELS * CHANNELS
    for area, inputs in zip(areas, (512, 1024, 2048), strict=False):
        yield Conv(area * inputs * CHANNELS)  # lateral
        yield Conv(area * 9 * square)  # output
    for area in areas[3:]:
        yield Conv(area * 9 * square)
    for area in areas:
        yield Conv(area * 9 * square * 2 * TOWER)
        yield Conv(area * 9 * CHANNELS * (classes + outputs))


def flops(
    hw: tuple[int, int], *, classes: int = 80, outputs: int = 4, stride_in_1x1: bool = False
) -> tuple[int, int]:
    """(forward, training step) for one image of h x w px.

    Args:
        hw: its height and width.
        classes: of the classification.
        outputs: of the box tower: 4, and 1 more with a centre-ness.
        stride_in_1x1: MSRA's ResNet rather than torchvision's.
    """
    layers = [*backbone(*hw, stride_in_1x1), *pyramid_and_head(*hw, classes, outputs)]
    forward = sum(2 * layer.macs for layer in layers)
    return forward, forward + sum(2 * layer.macs * layer.gradients for layer in layers)


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="800x1344", help="height x width, px")
    height, width = map(int, parser.parse_args().size.split("x"))
    for strides in (False, True):
        forward, step = flops((height, width), stride_in_1x1=strides)
        kind = "MSRA's strides" if strides else "torchvision's strides"
        print(f"{kind}: {forward / 1e9:.1f} GFLOP forward, {step / 1e9:.1f} GFLOP a training step")


if __name__ == "__main__":
    main()
