r"""Image to boxes, NMS included: ours against torchvision's FCOS, on one device.

    python benchmarks/inference.py                        # 800x1344 px, batches of 1 and 16
    python benchmarks/inference.py --size 640x640 --batches 1 --dtype float32 \
        --settings default channels_last compile --threads 2

Ours is the program that `Detector` compiles; torchvision's is fcos_resnet50_fpn in eval mode, its
transform replaced by the normalisation of its pixels. From uint8 pixels that lie on the device, and
from the host's memory; the boxes come to the host, and the next call begins then. Models, settings
and FLOPs are those of train_step.py.

The weights are random, so every score is at its prior and nothing would pass the threshold. To
either model's class logits the number is added with which 2,000 pairs of location and class of an
image (--candidates) pass its own threshold (ours 0.05, torchvision's 0.2 of the root with the
centre-ness). Boxes are about four strides wide and high.
"""

import argparse
import contextlib

import fcos_flops
import rows
import sides
import workload


def questions(options: argparse.Namespace) -> list[rows.Question]:
    """Latency and throughput, from either memory."""
    ours, _ = fcos_flops.flops(options.size, stride_in_1x1=options.strides == "msra")
    peer, _ = fcos_flops.flops(options.size, outputs=5)
    return [
        rows.Question(
            f"detect {n}, {place}", f"{n} {place}", n, n * ours, n * peer, options.seconds
        )
        for n in options.batches
        for place in ("device", "host")
    ]


def ours(options: argparse.Namespace) -> sides.Side:
    """Our side."""
    return sides.ours("detect", options, options.batches)


def peer(options: argparse.Namespace, setting: str) -> sides.Side:
    """The other side."""
    return sides.peer("detect", options, options.batches, setting)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workload.common(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="images of each")
    options = parser.parse_args()
    sides.limit_processors(options.threads)
    table = rows.Table(options.json)
    print(rows.HEAD)
    with contextlib.closing(ours(options)) as our_side:
        rows.start(our_side, table, options.limit)
        for asked in questions(options):
            table.add(rows.alone(asked, our_side, options.limit))
        for setting in options.settings:
            limit = options.compile_budget if "compile" in setting else options.limit
            with contextlib.closing(peer(options, setting)) as other:
                rows.start(other, table, options.limit)
                for asked in questions(options):
                    name = f"torchvision {setting}"
                    table.add(rows.against(asked, our_side, other, name, limit))
    table.show()


if __name__ == "__main__":
    main()
