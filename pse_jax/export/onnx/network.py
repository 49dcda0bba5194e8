"""The network's layers as ONNX nodes: ResNet, feature pyramid, head. Channels first, float32.

Frozen batch norms are multiplied into the convolutions before them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pse_jax.config import ModelConfig
from pse_jax.export.onnx import winograd
from pse_jax.export.onnx.graph import Graph, Tensor, ints
from pse_jax.models.layers import GROUP_EPSILON
from pse_jax.models.resnet import BLOCKS
from pse_jax.points import STRIDES


@dataclasses.dataclass(frozen=True)
class Level:
    """What the head says of one level of the pyramid, [b, channels, rows, columns]."""

    class_logits: Tensor
    distances: Tensor  # as the convolution gives them, before scale and exponential
    quality_logits: Tensor | None


class Layers:
    """Adds the layers of one model to a graph, with its variables."""

    def __init__(
        self,
        graph: Graph,
        config: ModelConfig,
        variables: Mapping[str, Any],
        *,
        for_cpu: bool,
    ) -> None:
        self.graph = graph
        self.config = config
        self.variables = variables
        self.for_cpu = for_cpu  # large convolutions with fewer multiplications
        self._places: dict[str, Tensor] = {}  # of kernels, by path: the levels share them

    def value(self, path: str, collection: str = "params") -> np.ndarray:
        """The variable at `backbone/stem/conv1/kernel`."""
        node: Any = self.variables[collection]
        for name in path.split("/"):
            node = node[name]
        return np.asarray(node, np.float32)

    def conv(
        self, x: Tensor, path: str, stride: int = 1, *, bias: bool = True, norm: str = ""
    ) -> Tensor:
        """A convolution, with the frozen batch norm `norm` folded in; see `models.layers.Conv`."""
        kernel = self.value(f"{path}/kernel").transpose(3, 2, 0, 1)  # HWIO to OIHW
        if path == "backbone/stem/conv1":
            kernel = self._of_rgb(kernel)
        offset = self.value(f"{path}/bias") if bias else None
        if norm:
            scale = self.value(f"{norm}/scale", "frozen")
            kernel = kernel * scale[:, None, None, None]
            offset = self.value(f"{norm}/bias", "frozen")
        if self.for_cpu and winograd.pays(kernel, stride):
            return self._winograd(x, path, kernel, offset)
        operands = [self.graph.constant(kernel, f"{path}/kernel")]
        if offset is not None:
            operands.append(self.graph.constant(offset, f"{path}/bias"))
        size = kernel.shape[2]
        return self.graph(
            "Conv", x, *operands, kernel_shape=[size, size], strides=[stride, stride],
            pads=[size // 2] * 4,
        )  # fmt: skip

    def _winograd(
        self, x: Tensor, path: str, kernel: np.ndarray, offset: np.ndarray | None
    ) -> Tensor:
        """A 3x3 convolution of stride 1, as `export.onnx.winograd` computes it."""
        if path not in self._places:
            places = winograd.kernel_places(self.graph, kernel, f"{path}/kernel")
            self._places[path] = places
        x = winograd.conv(self.graph, x, self._places[path], kernel.shape[:2])
        if offset is None:
            return x
        return self.graph("Add", x, self.graph.constant(offset[:, None, None], f"{path}/bias"))

    def _of_rgb(self, kernel: np.ndarray) -> np.ndarray:
        """The first kernel, for RGB pixels that are not yet divided by their deviation."""
        kernel = kernel / np.array(self.config.pixel_std, np.float32)[:, None, None]
        return kernel[:, ::-1] if self.config.channel_order == "bgr" else kernel

    def group_norm(self, x: Tensor, path: str, groups: int) -> Tensor:
        """Group normalisation, as InstanceNormalization of each group and the channels' own affine.

        The node GroupNormalization would be one, but onnxruntime has no kernel for it on CPU and
        computes it by its definition, some twenty nodes: 3 to 6 times as long (docs/export.md).
        """
        scale, bias = (
            self.graph.constant(self.value(f"{path}/{name}")[:, None, None], f"{path}/{name}")
            for name in ("scale", "bias")
        )
        one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        grouped = self.graph("Reshape", x, ints(0, groups, -1))
        normed = self.graph("InstanceNormalization", grouped, one, zero, epsilon=GROUP_EPSILON)
        normed = self.graph("Reshape", normed, self.graph("Shape", x))
        return self.graph("Add", self.graph("Mul", normed, scale), bias)

    def normed_conv(self, x: Tensor, path: str, norm: str, stride: int = 1) -> Tensor:
        """A convolution of the backbone and the norm after it, of whichever kind it is."""
        if self.config.norm == "frozen_bn":
            return self.conv(x, path, stride, bias=False, norm=norm)
        x = self.conv(x, path, stride, bias=False)
        return self.group_norm(x, norm, self.config.norm_groups)

    def relu(self, x: Tensor) -> Tensor:
        """ReLU."""
        return self.graph("Relu", x)

    def block(self, x: Tensor, path: str, stride: int) -> Tensor:
        """A residual block; see `models.resnet.Block`."""
        shortcut = x
        if "downsample" in self._children(path):
            shortcut = self.normed_conv(x, f"{path}/downsample", f"{path}/downsample_norm", stride)
        if self.config.depth >= 50:
            strides = (stride, 1, 1) if self.config.stride_in_1x1 else (1, stride, 1)
        else:
            strides = (stride, 1)
        for i, step in enumerate(strides, start=1):
            x = self.normed_conv(x, f"{path}/conv{i}", f"{path}/norm{i}", step)
            x = self.relu(x) if i < len(strides) else x
        return self.relu(self.graph("Add", x, shortcut))

    def _children(self, path: str) -> Mapping[str, Any]:
        node: Any = self.variables["params"]
        for name in path.split("/"):
            node = node[name]
        return node

    def backbone(self, x: Tensor) -> list[Tensor]:
        """C3, C4 and C5 of a canvas [b, 3, h, w]."""
        stem = "backbone/stem"
        x = self.relu(self.normed_conv(x, f"{stem}/conv1", f"{stem}/norm1", 2))
        x = self.graph("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        outputs = []
        for stage, count in enumerate(BLOCKS[self.config.depth], start=1):
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                x = self.block(x, f"backbone/layer{stage}/block{i}", stride)
            outputs.append(x)
        return outputs[1:]

    def pyramid(self, features: list[Tensor]) -> list[Tensor]:
        """P3 to P7; see `models.fpn.FPN`."""

        def upsample(x: Tensor) -> Tensor:
            scales = np.array([1, 1, 2, 2], np.float32)
            return self.graph(
                "Resize", x, "", scales, mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip

        merged: dict[int, Tensor] = {}
        for level, x in zip((5, 4, 3), features[::-1], strict=True):
            merged[level] = self.conv(x, f"fpn/lateral{level}")
            if level < 5:
                above = upsample(merged[level + 1])
                merged[level] = self.graph("Add", merged[level], above)
        p3, p4, p5 = (self.conv(merged[level], f"fpn/output{level}") for level in (3, 4, 5))
        p6 = self.conv(p5, "fpn/p6", 2)
        return [p3, p4, p5, p6, self.conv(self.relu(p6), "fpn/p7", 2)]

    def tower(self, x: Tensor, path: str) -> Tensor:
        """One of the head's towers; see `models.head.Tower`."""
        for i in range(self.config.head_convs):
            x = self.conv(x, f"{path}/conv{i}", bias=self.config.tower_bias)
            x = self.relu(self.group_norm(x, f"{path}/norm{i}", self.config.head_groups))
        return x

    def head(self, pyramid: list[Tensor]) -> list[Level]:
        """What the head says of each level; see `models.head.Head`."""
        c, levels = self.config, []
        for stride, x in zip(STRIDES, pyramid, strict=True):
            with self.graph.scope(f"stride{stride}"):
                classes = self.tower(x, "head/class_tower")
                boxes = self.tower(x, "head/box_tower")
                quality = None
                if c.quality != "none":
                    on = classes if c.quality_tower == "class" else boxes
                    quality = self.conv(on, "head/quality_conv")
                levels.append(
                    Level(
                        self.conv(classes, "head/class_conv"),
                        self.conv(boxes, "head/box_conv"),
                        quality,
                    )
                )
        return levels
