r"""Training steps: ours against those of torchvision's FCOS, on one device.

    python benchmarks/train_step.py                       # 16 x 800x1344 px, for a GPU
    python benchmarks/train_step.py --size 320x320 --batch 2 --dtype float32 \
        --settings default channels_last compile --threads 2

Ours is the step that train.py compiles for coco_pse, with its donation, its guard against values
that are not finite, and 96 slots for boxes; torchvision's is fcos_resnet50_fpn with its losses and
SGD with momentum, its transform replaced by the normalisation of its pixels. Both: ResNet-50-FPN
with random weights, 80 classes, stem and first stage frozen, the same uint8 pixels on the device
and 7 objects an image. ResNet's strides are where each has them (ours: 2 % fewer FLOPs; the same
with --strides torchvision). TFLOP/s count convolutions alone, each side's own.

Settings of torchvision: default, float32 with TF32 for convolutions; or parts joined by +, all with
TF32 and cuDNN's search for algorithms: bf16 (autocast), channels_last, compile (backbone and head),
graphs (compile, with CUDA graphs). Ours in float32 uses TF32 on a GPU, too, as XLA does by default.
"""

import argparse
import contextlib

import fcos_flops
import rows
import sides
import workload


def question(options: argparse.Namespace) -> rows.Question:
    """What a step is."""
    _, ours = fcos_flops.flops(options.size, stride_in_1x1=options.strides == "msra")
    _, peer = fcos_flops.flops(options.size, outputs=5)  # and a centre-ness
    count = options.batch
    name = f"train {count}x{options.size[0]}x{options.size[1]}"
    return rows.Question(name, "step", count, count * ours, count * peer, options.seconds)


def ours(options: argparse.Namespace) -> sides.Side:
    """Our side."""
    return sides.ours("train", options, [options.batch])


def peer(options: argparse.Namespace, setting: str) -> sides.Side:
    """The other side."""
    return sides.peer("train", options, [options.batch], setting)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workload.common(parser)
    parser.add_argument("--batch", type=int, default=16, help="images")
    options = parser.parse_args()
    sides.limit_processors(options.threads)
    table, asked = rows.Table(options.json), question(options)
    print(rows.HEAD)
    with contextlib.closing(ours(options)) as our_side:
        rows.start(our_side, table, options.limit)
        table.add(rows.alone(asked, our_side, options.limit))
        for setting in options.settings:
            limit = options.compile_budget if "compile" in setting else options.limit
            with contextlib.closing(peer(options, setting)) as other:
                rows.start(other, table, options.limit)
                table.add(rows.against(asked, our_side, other, f"torchvision {setting}", limit))
    table.show()


if __name__ == "__main__":
    main()
