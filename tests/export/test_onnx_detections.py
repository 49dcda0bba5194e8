"""The ONNX graph from the head's outputs on, against postprocess.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx import TensorProto

from pse_jax import postprocess
from pse_jax.categories import Categories
from pse_jax.config import Config, InferenceConfig, ModelConfig
from pse_jax.export.onnx import detections
from pse_jax.export.onnx.graph import FLOAT, Graph
from pse_jax.export.onnx.network import Level
from pse_jax.models import Predictions
from pse_jax.models.head import to_distances
from pse_jax.points import STRIDES, level_shapes
from tests import tiny
from tests.export import graphs

CANVAS = (96, 128)
IMAGE = (83, 120)  # the part that is not padding
GIVEN = (166, 90)
SCALES = np.array([1.0, 0.75, 1.25, 0.5, 1.5], np.float32)
INFERENCE = InferenceConfig(top_k=40, max_detections=25)


def graph_of(config, classes):
    """The outputs of the graph for head outputs [b, channels, rows, columns] of each level."""
    g, levels, inputs = Graph(), [], {}
    channels = {"class": classes, "box": 4, "quality": 1}
    if config.model.quality == "none":
        del channels["quality"]
    for i in range(5):
        names = {kind: f"{kind}{i}" for kind in channels}
        for kind, count in channels.items():
            inputs[names[kind]] = (TensorProto.FLOAT, ["b", count, f"h{i}", f"w{i}"])
        levels.append(Level(names["class"], names["box"], names.get("quality")))
    for name in ("canvas", "image", "given"):
        inputs[name] = (TensorProto.INT64, [2])
    found = detections.candidates(g, levels, SCALES, "canvas", config, classes)
    image, given = (g("Cast", name, to=FLOAT) for name in ("image", "given"))
    found = detections.suppressed(g, found, image, config, classes)
    categories = Categories(tuple(range(3, 3 + 2 * classes, 2)), ("",) * classes)
    return graphs.runner(g, inputs, detections.outputs(g, found, image, given, config, categories))


def head_outputs(rng, batch, classes, *, coarse):
    """Of each level; `coarse` logits have few values, so that many scores are equal."""
    levels = []
    for (rows, columns), stride in zip(level_shapes(*CANVAS), STRIDES, strict=True):
        logits = rng.normal(-3, 2, (batch, rows, columns, classes))
        level = {
            "class": np.round(logits) if coarse else logits,
            "box": rng.normal(0.3 + np.log(stride) * 0.7, 0.5, (batch, rows, columns, 4)),
            "quality": rng.normal(0, 2, (batch, rows, columns, 1)),
        }
        levels.append({kind: values.astype(np.float32) for kind, values in level.items()})
    return levels


def expected(levels, config):
    """What detector.detect makes of the same outputs."""

    def flat(kind, change=lambda x, _: x):
        parts = [change(level[kind], i) for i, level in enumerate(levels)]
        return jnp.concatenate([p.reshape(len(p), -1, p.shape[-1]) for p in parts], axis=1)

    def distances(x, i):
        return to_distances(jnp.asarray(SCALES[i] * x), STRIDES[i], config.model.distances)

    quality = None if config.model.quality == "none" else flat("quality")[..., 0]
    predictions = Predictions(flat("class"), flat("box", distances), quality)

    def one(predictions):
        return postprocess.detections(
            predictions, jnp.array(IMAGE), jnp.array(True), CANVAS, config.inference,
            config.model.grid,
        )  # fmt: skip

    found = jax.jit(jax.vmap(one), compiler_options=tiny.FAST)(predictions)
    count = len(levels[0]["box"])
    size = jnp.tile(jnp.array(GIVEN, jnp.float32), (count, 1))
    scale = size / jnp.array(IMAGE)
    return jax.device_get(
        postprocess.rescale(found, scale[:, ::-1], size, inclusive=config.inference.inclusive_boxes)
    )


MODEL = ModelConfig(quality="none", distances="exp", grid="center")
CENTERNESS = dataclasses.replace(MODEL, quality="centerness")
TORCHVISION = ModelConfig(quality="centerness", distances="relu", grid="torchvision")


@pytest.mark.parametrize(
    "model, changes, classes, coarse",
    [
        (MODEL, {}, 3, True),
        (MODEL, {"max_detections": 400, "top_k": 9, "nms_threshold": 0.9}, 1, False),
        (MODEL, {"inclusive_boxes": True, "nms_threshold": 0.3}, 2, False),
        (MODEL, {"clip_first": False, "nms_threshold": 0.0}, 5, False),
        (CENTERNESS, {"sqrt_score": True, "clip_first": False, "inclusive_boxes": True}, 3, False),
        (CENTERNESS, {"top_k_by": "class"}, 4, False),
        (TORCHVISION, {"threshold_by": "final", "score_threshold": 0.2, "sqrt_score": True}, 3,
         False),
        (TORCHVISION, {"threshold_by": "final", "top_k_by": "class", "score_threshold": 0.3}, 3,
         False),
        (MODEL, {"score_threshold": 0.999}, 3, False),
    ],
)  # fmt: skip
def test_detections_are_those_of_postprocess(model, changes, classes, coarse, rng):
    config = Config(model=model, inference=dataclasses.replace(INFERENCE, **changes))
    levels = head_outputs(rng, 2, classes, coarse=coarse)
    want = expected(levels, config)
    arrays = {
        f"{kind}{i}": values.transpose(0, 3, 1, 2)
        for i, level in enumerate(levels)
        for kind, values in level.items()
        if kind != "quality" or model.quality != "none"
    }
    sizes = {"canvas": CANVAS, "image": IMAGE, "given": GIVEN}
    boxes, scores, ids, count = graph_of(config, classes)(
        **arrays, **{name: np.array(size, np.int64) for name, size in sizes.items()}
    )
    assert boxes.shape == want.boxes_xyxy.shape and ids.dtype == np.int32
    np.testing.assert_array_equal(count, want.valid.sum(axis=1))
    assert (count > 8).all() or config.inference.score_threshold == 0.999
    for row, n in enumerate(count):
        keep = want.valid[row]
        np.testing.assert_allclose(scores[row, :n], want.scores[row][keep], atol=1e-6)
        np.testing.assert_allclose(boxes[row, :n], want.boxes_xyxy[row][keep], atol=1e-3)
        np.testing.assert_array_equal(ids[row, :n], 3 + 2 * want.labels[row][keep])
        assert not scores[row, n:].any() and not boxes[row, n:].any()
        assert (ids[row, n:] == -1).all()


def test_equal_scores_keep_their_order():
    """Locations that say exactly the same, as in a flat picture: the first of a class wins."""
    config = Config(model=MODEL, inference=dataclasses.replace(INFERENCE, nms_threshold=0.2))
    levels = head_outputs(np.random.default_rng(1), 1, 3, coarse=True)
    for level in levels:
        level["class"][:] = [0.5, -1, 0.5]
        level["box"][:] = 2.5
    want = expected(levels, config)
    arrays = {
        f"{kind}{i}": level[kind].transpose(0, 3, 1, 2)
        for i, level in enumerate(levels)
        for kind in ("class", "box")
    }
    sizes = {"canvas": CANVAS, "image": IMAGE, "given": GIVEN}
    boxes, _, ids, count = graph_of(config, 3)(
        **arrays, **{name: np.array(size, np.int64) for name, size in sizes.items()}
    )
    assert count[0] == want.valid.sum() > 10
    np.testing.assert_array_equal(ids[0, : count[0]], 3 + 2 * want.labels[0][want.valid[0]])
    np.testing.assert_allclose(boxes[0, : count[0]], want.boxes_xyxy[0][want.valid[0]], atol=1e-3)
