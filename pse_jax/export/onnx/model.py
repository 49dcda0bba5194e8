"""The whole ONNX model: raw pixels in, boxes in the pixels of the given image out."""

import dataclasses
import importlib.metadata
import json
from collections import Counter

import jax
import numpy as np
import onnx
from onnx import TensorProto, helper

from pse_jax.config import to_dict
from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import artefact
from pse_jax.export.artefact import Artefact, Tensor
from pse_jax.export.onnx import detections, resize
from pse_jax.export.onnx.graph import FLOAT, IR_VERSION, OPSET, Graph, ints
from pse_jax.export.onnx.network import Layers

FILE = "model.onnx"
TYPES = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
}
FOR_CPU = (
    "It was made for CPUs: its large 3x3 convolutions are spelled out in nodes with fewer "
    "multiplications. For a GPU or another runtime, export it with --onnx-for any: one node each."
)
EXAMPLE = """\
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
pixels = np.load("photo.npy")  # uint8 RGB [height, width, 3]
boxes, scores, ids, count = (each[0] for each in session.run(None, {"images": pixels[None]}))
print(boxes[:count], scores[:count], ids[:count])
"""


def build(detector: Detector, *, for_cpu: bool = True) -> onnx.ModelProto:
    """The model of a detector, checked by onnx.checker.

    Args:
        detector: any.
        for_cpu: large 3x3 convolutions with fewer multiplications (`export.onnx.winograd`), which
            is faster on CPUs; otherwise each is a single node, for hardware that has its own way.

    Raises:
        UserError: if a category id does not fit in 32 bits.
    """
    config, categories = detector.config, detector.categories
    _check(detector)
    variables = jax.device_get(detector.variables)
    g = Graph()
    with g.scope("resize"):
        given_hw = g("Shape", "images", start=1, end=3)
        image_hw = resize.resized_hw(g, given_hw, config.data)
        canvas_hw = resize.canvas_hw(g, image_hw, config.data, detector.canvases_hw)
        pixels = resize.resize(g, "images", given_hw, image_hw, config.data.resize)
        canvas = _canvas(g, pixels, image_hw, canvas_hw, _mean_rgb(detector))
    layers = Layers(g, config.model, variables, for_cpu=for_cpu)
    with g.scope("backbone"):
        features = layers.backbone(canvas)
    with g.scope("fpn"):
        pyramid = layers.pyramid(features)
    with g.scope("head"):
        levels = layers.head(pyramid)
    with g.scope("detections"):
        scales, classes = layers.value("head/scales"), len(categories)
        found = detections.candidates(g, levels, scales, canvas_hw, config, classes)
        image_size, given_size = (g("Cast", hw, to=FLOAT) for hw in (image_hw, given_hw))
        found = detections.suppressed(g, found, image_size, config, classes)
        results = detections.outputs(g, found, image_size, given_size, config, categories)
    for name, result in zip(
        ("boxes_xyxy", "scores", "category_ids", "count"), results, strict=True
    ):
        g.nodes.append(helper.make_node("Identity", [result], [name], name=name))
    model = _model(g, detector)
    onnx.checker.check_model(model, full_check=True)
    return model


def _check(detector: Detector) -> None:
    """Refuses what the graph could not do rightly; it takes every configuration."""
    ids = detector.categories.ids
    if max(map(abs, ids)) > np.iinfo(np.int32).max:
        raise UserError(f"the category ids {min(ids)}..{max(ids)} do not fit in 32 bits")


def _mean_rgb(detector: Detector) -> np.ndarray:
    """The mean pixel as a float32 [3, 1, 1], in the order of the images given."""
    model = detector.config.model
    mean = np.array(model.pixel_mean, np.float32)
    return (mean[::-1] if model.channel_order == "bgr" else mean)[:, None, None].copy()


def _canvas(g: Graph, pixels: str, image_hw: str, canvas_hw: str, mean: np.ndarray) -> str:
    """What the network sees, [b, 3, h, w], but for the order of channels and their deviation.

    Those are in the first kernel. The padding is zero after the mean is subtracted.
    """
    centred = g("Sub", g("Cast", pixels, to=FLOAT), mean)
    pads = g("Concat", ints(0, 0, 0, 0, 0, 0), g("Sub", canvas_hw, image_hw), axis=0)
    return g("Pad", centred, pads)


def signature(detector: Detector) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and the outputs."""
    images = Tensor(
        "images",
        "uint8",
        ("batch", "height", "width", 3),
        "raw RGB pixels; all images of one call are of one size, which may be any",
    )
    *found, count = artefact.outputs(detector.config.inference.max_detections, "batch")
    count = dataclasses.replace(count, meaning="how many of the slots are detections")
    return (images,), (*found, count)


def _model(g: Graph, detector: Detector) -> onnx.ModelProto:
    """The graph with its signature and what a reader of the file wants to know."""
    inputs, outputs = (
        [helper.make_tensor_value_info(t.name, TYPES[t.dtype], list(t.shape)) for t in tensors]
        for tensors in signature(detector)
    )
    graph = helper.make_graph(
        g.nodes, detector.config.name or "detector", inputs, outputs, list(g.constants.values())
    )
    version = importlib.metadata.version("pse-jax")
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="pse-jax",
        producer_version=version,
    )
    categories = detector.categories
    labels = dict(zip(map(str, categories.ids), categories.names, strict=True))
    best = {} if detector.thresholds is None else detector.best_thresholds
    properties = {
        "labels": labels,  # category id to name
        "thresholds": {str(i): threshold for i, threshold in best.items()},  # by category id
        "config": to_dict(detector.config),
        "step": detector.step,
    }
    helper.set_model_props(
        model, {key: json.dumps(value, ensure_ascii=False) for key, value in properties.items()}
    )
    return model


def make(detector: Detector, *, for_cpu: bool = True) -> Artefact:
    """The ONNX file of a detector; `for_cpu` as in `build`.

    Raises:
        UserError: if a category id does not fit in 32 bits.
    """
    model = build(detector, for_cpu=for_cpu)
    inputs, outputs = signature(detector)
    spelled_out = any(node.op_type == "ConvTranspose" for node in model.graph.node)
    return Artefact(
        format="onnx",
        files={FILE: model.SerializeToString()},
        inputs=inputs,
        outputs=outputs,
        limits={"opset": OPSET, "dtype": "float32", "sizes_in_a_call": 1},
        notes=(
            "It takes any number of images, of any size, but those of one call are of one size: "
            "call it once for each size.",
            f"Opset {OPSET}, standard operators alone; NMS is the node NonMaxSuppression. It "
            "computes in float32, whatever model.dtype says, and sizes and resize in float64.",
            "The pixels of an image are resized to the same bits as pse_jax's Python API does "
            "without OpenCV; with the extra `fast`, which resizes with OpenCV, those of an image "
            "that is enlarged differ by at most one level.",
            "The file says by itself what its classes are called: metadata `labels`, JSON, "
            "category id to name; also `thresholds`, of best F1 by id, `config` and `step`.",
        )
        + (FOR_CPU,) * spelled_out,
        example=EXAMPLE,
    )


def count_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind there are, most first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())
