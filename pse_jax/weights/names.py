"""What published ResNets and FCOS detectors call their layers, and what we call them.

One table a code base; it serves to read its files and, for the official one, to write them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from pse_jax.config import ModelConfig
from pse_jax.models.resnet import BLOCKS

Names = tuple[str, ...]
Kind = Literal["conv", "biased conv", "group norm", "batch norm", "folded norm"]

_LEAVES: dict[Kind, Names] = {
    "conv": ("weight",),
    "biased conv": ("weight", "bias"),
    "group norm": ("weight", "bias"),
    "batch norm": ("weight", "bias", "running_mean", "running_var"),
    "folded norm": ("weight", "bias"),  # a batch norm whose statistics are in scale and bias
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or a normalisation, under both names."""

    ours: str  # "head/class_tower/conv0"
    theirs: str  # "rpn.head.cls_tower.0"
    kind: Kind

    @property
    def in_file(self) -> Names:
        """The names of its arrays in a file."""
        return tuple(f"{self.theirs}.{leaf}" for leaf in _LEAVES[self.kind])

    @property
    def paths(self) -> tuple[str, str]:
        """Our paths of its kernel or scale and of its bias, whether or not it has one."""
        collection = "frozen" if self.kind in ("batch norm", "folded norm") else "params"
        first = "kernel" if "conv" in self.kind else "scale"
        return f"{collection}/{self.ours}/{first}", f"{collection}/{self.ours}/bias"


@dataclasses.dataclass(frozen=True)
class Body:
    """A ResNet's convolutions, each with the normalisation after it.

    In braces: `stage` 1..4, `res` one more, `block` 0.., `conv` 1..3 in a block (`letter` a..c).
    """

    stem: Names
    block: Names
    shortcut: Names


@dataclasses.dataclass(frozen=True)
class Style:
    """A detector's layers.

    In braces: `i` 0.. in a tower, whose modules count `first`, `second`: 3i and 3i + 1.
    """

    body: Body
    laterals: Names  # of C3, C4, C5
    outputs: Names  # P3, P4, P5
    extra: Names  # P6, P7
    class_tower: Names  # a convolution and its GroupNorm
    box_tower: Names
    head: Names  # class, box and quality output
    scales: str  # "" where there are none
    bn_epsilon: float


def _under(prefix: str, *names: str) -> Names:
    return tuple(prefix + name for name in names)


def _torch_body(prefix: str, stem: str = "") -> Body:
    return Body(
        stem=_under(prefix + stem, "conv1", "bn1"),
        block=_under(prefix + "layer{stage}.{block}.", "conv{conv}", "bn{conv}"),
        shortcut=_under(prefix + "layer{stage}.{block}.downsample.", "0", "1"),
    )


TORCH_RESNET = _torch_body("")  # torchvision's and timm's
CAFFE_RESNET = Body(  # as backbones.py spells Detectron's and detectron2's
    stem=("conv1", "conv1_bn"),
    block=_under("res{res}_{block}_branch2{letter}", "", "_bn"),
    shortcut=_under("res{res}_{block}_branch1", "", "_bn"),
)

OFFICIAL = Style(
    body=_torch_body("backbone.body.", stem="stem."),
    laterals=_under("backbone.fpn.fpn_inner", "2", "3", "4"),
    outputs=_under("backbone.fpn.fpn_layer", "2", "3", "4"),
    extra=_under("backbone.fpn.top_blocks.", "p6", "p7"),
    class_tower=_under("rpn.head.cls_tower.", "{first}", "{second}"),
    box_tower=_under("rpn.head.bbox_tower.", "{first}", "{second}"),
    head=_under("rpn.head.", "cls_logits", "bbox_pred", "centerness"),
    scales="rpn.head.scales.{i}.scale",
    bn_epsilon=0.0,  # maskrcnn-benchmark's FrozenBatchNorm2d has none
)

ADELAIDET = Style(
    body=Body(
        stem=_under("backbone.bottom_up.stem.conv1", "", ".norm"),
        block=_under("backbone.bottom_up.res{res}.{block}.conv{conv}", "", ".norm"),
        shortcut=_under("backbone.bottom_up.res{res}.{block}.shortcut", "", ".norm"),
    ),
    laterals=_under("backbone.fpn_lateral", "3", "4", "5"),
    outputs=_under("backbone.fpn_output", "3", "4", "5"),
    extra=_under("backbone.top_block.", "p6", "p7"),
    class_tower=_under("proposal_generator.fcos_head.cls_tower.", "{first}", "{second}"),
    box_tower=_under("proposal_generator.fcos_head.bbox_tower.", "{first}", "{second}"),
    head=_under("proposal_generator.fcos_head.", "cls_logits", "bbox_pred", "ctrness"),
    scales="proposal_generator.fcos_head.scales.{i}.scale",
    bn_epsilon=1e-5,
)

TORCHVISION = Style(
    body=_torch_body("backbone.body."),
    laterals=_under("backbone.fpn.inner_blocks.", "0.0", "1.0", "2.0"),
    outputs=_under("backbone.fpn.layer_blocks.", "0.0", "1.0", "2.0"),
    extra=_under("backbone.fpn.extra_blocks.", "p6", "p7"),
    class_tower=_under("head.classification_head.conv.", "{first}", "{second}"),
    box_tower=_under("head.regression_head.conv.", "{first}", "{second}"),
    head=(
        "head.classification_head.cls_logits",
        "head.regression_head.bbox_reg",
        "head.regression_head.bbox_ctrness",
    ),
    scales="",
    bn_epsilon=1e-5,
)

MMDET = Style(
    body=_torch_body("backbone."),
    laterals=_under("neck.lateral_convs.", "0.conv", "1.conv", "2.conv"),
    outputs=_under("neck.fpn_convs.", "0.conv", "1.conv", "2.conv"),
    extra=_under("neck.fpn_convs.", "3.conv", "4.conv"),
    class_tower=_under("bbox_head.cls_convs.{i}.", "conv", "gn"),
    box_tower=_under("bbox_head.reg_convs.{i}.", "conv", "gn"),
    head=_under("bbox_head.", "conv_cls", "conv_reg", "conv_centerness"),
    scales="bbox_head.scales.{i}.scale",
    bn_epsilon=1e-5,
)

# By the beginning of a format's name.
STYLES = {"fcos": OFFICIAL, "adelaidet": ADELAIDET, "torchvision": TORCHVISION, "mmdet": MMDET}


def resnet_layers(body: Body, depth: int, norm: Kind) -> Iterator[Layer]:
    """The layers of a ResNet of this depth, without its classifier."""
    yield Layer("backbone/stem/conv1", body.stem[0], "conv")
    yield Layer("backbone/stem/norm1", body.stem[1], norm)
    bottleneck = depth >= 50
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(blocks):
            ours = f"backbone/layer{stage}/block{block}"
            for i in range(1, 4 if bottleneck else 3):
                conv, normalisation = block_names(body.block, stage, block, i)
                yield Layer(f"{ours}/conv{i}", conv, "conv")
                yield Layer(f"{ours}/norm{i}", normalisation, norm)
            if block == 0 and (bottleneck or stage > 1):
                conv, normalisation = block_names(body.shortcut, stage, block)
                yield Layer(f"{ours}/downsample", conv, "conv")
                yield Layer(f"{ours}/downsample_norm", normalisation, norm)


def block_names(names: Names, stage: int, block: int, conv: int = 1) -> Names:
    """A convolution of a block, or its shortcut, and the norm after it."""
    where = {"stage": stage, "res": stage + 1, "block": block, "conv": conv}
    return tuple(name.format(**where, letter="abc"[conv - 1]) for name in names)


def tower_names(names: Names, i: int) -> Names:
    """The convolution and the GroupNorm of layer i of a tower."""
    return tuple(name.format(i=i, first=3 * i, second=3 * i + 1) for name in names)


def detector_layers(style: Style, model: ModelConfig) -> Iterator[Layer]:
    """The layers of an FCOS with these settings; all but the scales of its levels."""
    norm: Kind = "batch norm" if model.norm == "frozen_bn" else "group norm"
    yield from resnet_layers(style.body, model.depth, norm)
    tower_conv: Kind = "biased conv" if model.tower_bias else "conv"
    for tower, names in (("class_tower", style.class_tower), ("box_tower", style.box_tower)):
        for i in range(model.head_convs):
            conv, normalisation = tower_names(names, i)
            yield Layer(f"head/{tower}/conv{i}", conv, tower_conv)
            yield Layer(f"head/{tower}/norm{i}", normalisation, "group norm")
    pyramid = [f"fpn/{kind}{level}" for kind in ("lateral", "output") for level in (3, 4, 5)]
    outputs = ["head/class_conv", "head/box_conv"]
    outputs += ["head/quality_conv"] if model.quality != "none" else []
    ours = [*pyramid, "fpn/p6", "fpn/p7", *outputs]
    theirs = [*style.laterals, *style.outputs, *style.extra, *style.head[: len(outputs)]]
    for a, b in zip(ours, theirs, strict=True):
        yield Layer(a, b, "biased conv")
