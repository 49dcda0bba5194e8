"""Torchvision's side of train_step.py and inference.py: its FCOS in one of its settings.

Started by those, with the Python of an environment that has torchvision; see sides.py. A setting is
"default" or some of these, joined by +: channels_last; bf16 (autocast, on a GPU); compile
(torch.compile of backbone and head, the rest of the model depends on the data); graphs (the same,
with CUDA graphs). All but "default" let cuDNN choose its algorithms by trying and use TF32.
"""

import argparse
import contextlib
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sides
import torch
import torchvision
import workload
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

PARTS = ("channels_last", "bf16", "compile", "graphs")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Normalised(nn.Module):
    """In the place of torchvision's transform: a batch of one size is neither resized nor padded.

    Takes uint8 [b, 3, h, w], as our network takes uint8.
    """

    def __init__(self, memory_format: torch.memory_format):
        super().__init__()
        self.memory_format = memory_format
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None])

    def forward(self, images: torch.Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        """The pixels, normalised, and the targets as they are."""
        pixels = (images.float() - self.mean) / self.std
        pixels = pixels.contiguous(memory_format=self.memory_format)
        return ImageList(pixels, [tuple(pixels.shape[2:])] * len(pixels)), targets

    def postprocess(self, result: Any, *_: Any) -> Any:
        """Boxes as they are: no image was resized."""
        return result


def model_of(parts: list[str]) -> FCOS:
    """What fcos_resnet50_fpn(trainable_backbone_layers=3) builds for a pretrained backbone.

    Without pretrained weights that function trains all layers and does not freeze batch norm.
    """
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    for name, module in backbone.named_modules():
        if name.endswith("bn3"):
            module.weight.fill_(0.2)  # random residual blocks would double the variance each
    model = FCOS(backbone, workload.CLASSES)
    last = "channels_last" in parts
    model.transform = Normalised(torch.channels_last if last else torch.contiguous_format)
    model = model.to(DEVICE)
    return model.to(memory_format=torch.channels_last) if last else model


def compiled(model: FCOS, parts: list[str]) -> None:
    """Compiles backbone and head, if the setting says so."""
    if {"compile", "graphs"} & set(parts):
        mode = "reduce-overhead" if "graphs" in parts else "default"
        model.backbone.compile(mode=mode, dynamic=False)
        model.head.compile(mode=mode, dynamic=False)


def autocast(parts: list[str]) -> Any:
    """The context of a forward pass."""
    if "bf16" in parts:
        return torch.autocast(DEVICE.type, torch.bfloat16)
    return contextlib.nullcontext()


def train(options: argparse.Namespace) -> dict[str, sides.Block]:
    """Training steps on one batch that is on the device."""
    parts = options.parts
    model = model_of(parts).train()
    compiled(model, parts)
    sgd = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=workload.LEARNING_RATE,
        momentum=0.9,
        weight_decay=1e-4,
        fused=True if parts and DEVICE.type == "cuda" else None,
    )
    count = options.batches[0]
    images = on_device(workload.images(options.size, count)).permute(0, 3, 1, 2).contiguous()
    boxes, labels = map(on_device, workload.objects(options.size, count))
    targets = [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)]

    def step() -> torch.Tensor:
        with autocast(parts):
            loss = sum(model(images, targets).values())
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        return loss

    return {"step": calls(step, loss_of)}


def loss_of(loss: torch.Tensor) -> sides.Reply:
    """A finite one."""
    if not torch.isfinite(loss):
        raise FloatingPointError("the loss is not finite")
    return {"loss": float(loss)}


def detect(options: argparse.Namespace) -> dict[str, sides.Block]:
    """Calls, from uint8 pixels on the host or the device to boxes on the host."""
    parts = options.parts
    model = model_of(parts).eval()
    livelier(model, options)
    compiled(model, parts)

    def call(images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        with torch.inference_mode(), autocast(parts):
            found = model(images.to(DEVICE).permute(0, 3, 1, 2))
        return [{name: value.cpu() for name, value in one.items()} for one in found]

    def detections(found: list[dict[str, torch.Tensor]]) -> sides.Reply:
        return {"detections": sum(len(one["boxes"]) for one in found) / len(found)}

    blocks = {}
    for count in options.batches:
        pixels = torch.from_numpy(workload.images(options.size, count))
        for place, images in (("device", pixels.to(DEVICE)), ("host", pixels)):
            blocks[f"{count} {place}"] = calls(functools.partial(call, images), detections)
    return blocks


def livelier(model: FCOS, options: argparse.Namespace) -> None:
    """With a bias that lets `--candidates` scores pass, and boxes four strides wide and high."""
    seen: dict[str, Any] = {}
    watch = model.head.register_forward_hook(lambda *args: seen.update(args[2]))
    nn.init.constant_(model.head.regression_head.bbox_reg.bias, 2.0)
    with torch.inference_mode():
        model(on_device(workload.images(options.size, 1)).permute(0, 3, 1, 2))
    watch.remove()
    logits, quality = (
        seen[name][0].float().cpu().numpy() for name in ("cls_logits", "bbox_ctrness")
    )
    more = workload.shift(logits, quality, model.score_thresh, options.candidates)
    with torch.no_grad():
        model.head.classification_head.cls_logits.bias += more


def on_device(array: np.ndarray) -> torch.Tensor:
    """On the GPU, if there is one."""
    return torch.from_numpy(array).to(DEVICE)


def calls(call: Callable[[], Any], describe: Callable[[Any], sides.Reply]) -> sides.Block:
    """A block of calls; of what the last returns, `describe` says more."""

    def block(steps: int) -> sides.Reply:
        began = time.perf_counter()
        for _ in range(steps):
            last = call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        reply = {"seconds": time.perf_counter() - began, **describe(last)}
        return reply | memory()

    return block


def memory() -> sides.Reply:
    """GB that was needed at most: of the GPU, or of the system's memory on a CPU."""
    on_gpu = DEVICE.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else sides.peak_memory_gb()
    return {"memory_gb": peak}


def peak_flops() -> float:
    """FLOP/s of a large matrix product, bfloat16 (float32 on a CPU): the best of some."""
    on_gpu = DEVICE.type == "cuda"
    n, times = (8192, 10) if on_gpu else (1024, 1)
    x = torch.randn((n, n), dtype=torch.bfloat16 if on_gpu else torch.float32, device=DEVICE)
    best = math.inf
    for turn in range(8):
        began = time.perf_counter()
        for _ in range(times):
            x @ x
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began) if turn else best
    return 2 * n**3 * times / best


def build(options: argparse.Namespace) -> tuple[dict[str, sides.Block], dict[str, Any]]:
    """The work, and what there is to say about it."""
    if options.threads:
        torch.set_num_threads(options.threads)
    options.parts = [part for part in options.setting.split("+") if part != "default"]
    if wrong := set(options.parts) - set(PARTS):
        raise ValueError(f"unknown in the setting: {', '.join(wrong)}")
    facts = {
        "peak_tflops": peak_flops() / 1e12,
        "platform": DEVICE.type,
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
    }
    if options.parts:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    return {"train": train, "detect": detect}[options.work](options), facts


def main() -> None:
    """Serves."""
    parser = workload.parser(__doc__)
    parser.add_argument("--setting", default="default")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    sides.serve(lambda: build(options))


if __name__ == "__main__":
    main()
