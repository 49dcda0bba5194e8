"""From the head's outputs to padded detections as ONNX nodes; `postprocess.py` says what and why.

Dimensions: b images, p locations of a level, c classes, k and n candidates, d detections.
"""

import dataclasses

import numpy as np

from pse_jax.categories import Categories
from pse_jax.config import Config
from pse_jax.export.onnx.graph import FLOAT, INT32, Graph, Tensor, ints
from pse_jax.export.onnx.network import Level
from pse_jax.models.head import EXPONENTS
from pse_jax.points import STRIDES
from pse_jax.postprocess import extent_of

zero, none = np.float32(0), np.float32(-1)  # the score -1: there is no such candidate


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Boxes before NMS of all levels: what `postprocess.Candidates` holds."""

    boxes_xyxy: Tensor  # float [b, n, 4]
    scores: Tensor  # float [b, n]; -1 for those to be ignored
    labels: Tensor  # int64 [b, n]


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Candidates of one level: [b, n], but for the geometry, [n, 4]."""

    scores: Tensor
    labels: Tensor
    location: Tensor  # within the level
    distances: Tensor  # [b, n, 4], scaled but before the exponential
    geometry: Tensor  # int64: columns, step in x and in y, offset of the level, px


def candidates(
    g: Graph,
    levels: list[Level],
    scales: np.ndarray,
    canvas_hw: Tensor,
    config: Config,
    classes: int,
) -> Candidates:
    """The best (location, class) pairs of each level and their boxes, in px of the canvas."""
    chosen = []
    for index, level in enumerate(levels):
        with g.scope(f"stride{STRIDES[index]}"):
            chosen.append(
                _of_level(g, level, index, float(scales[index]), canvas_hw, config, classes)
            )

    def all_of(field: str, axis: int) -> Tensor:
        return g("Concat", *(getattr(one, field) for one in chosen), axis=axis)

    columns, step_x, step_y, offset = g.several(
        "Split", 4, g("Transpose", all_of("geometry", 0)), axis=0, num_outputs=4
    )
    location = all_of("location", 1)
    x = g("Add", g("Mul", g("Mod", location, columns), step_x), offset)
    y = g("Add", g("Mul", g("Div", location, columns), step_y), offset)
    points = g("Concat", g("Unsqueeze", x, ints(2)), g("Unsqueeze", y, ints(2)), axis=2)
    points = g("Cast", points, to=FLOAT)
    distances = all_of("distances", 1)
    if config.model.distances == "exp":
        distances = g("Exp", g("Clip", distances, *map(np.float32, EXPONENTS)))
    else:
        distances = g("Relu", distances)
    before, after = g.several("Split", 2, distances, axis=2, num_outputs=2)
    boxes = g("Concat", g("Sub", points, before), g("Add", points, after), axis=2)
    return Candidates(boxes, all_of("scores", 1), all_of("labels", 1))


def _of_level(
    g: Graph,
    level: Level,
    index: int,
    scale: float,
    canvas_hw: Tensor,
    config: Config,
    classes: int,
) -> _Chosen:
    """`postprocess.top_candidates` of one level."""
    inference, stride = config.inference, STRIDES[index]

    def by_location(x: Tensor, channels: int) -> Tensor:
        return g("Reshape", g("Transpose", x, perm=[0, 2, 3, 1]), ints(0, -1, channels))

    logits = by_location(level.class_logits, classes)
    quality = None
    if level.quality_logits is not None:
        quality = g("Sigmoid", by_location(level.quality_logits, 1))  # [b, p, 1]

    best = g("Sigmoid", g("ReduceMax", logits, ints(2)))  # of the location's classes
    _, ranks = _final_and_ranks(g, best, quality, config)
    ranks = g("Squeeze", ranks, ints(2))
    count = g("Min", g("Shape", ranks, start=1), ints(inference.top_k))
    _, location = g.several("TopK", 2, ranks, count, axis=1)
    of_location = g("Unsqueeze", location, ints(2))

    def chosen(x: Tensor) -> Tensor:
        return g("GatherND", x, of_location, batch_dims=1)

    final, ranks = _final_and_ranks(
        g, g("Sigmoid", chosen(logits)), None if quality is None else chosen(quality), config
    )
    pairs = g("Reshape", ranks, ints(0, -1))
    count = g("Min", g("Shape", pairs, start=1), ints(inference.top_k))
    ranks, pair = g.several("TopK", 2, pairs, count, axis=1)
    if quality is None or inference.top_k_by == "final":
        scores = ranks
    else:
        scores = g("GatherElements", g("Reshape", final, ints(0, -1)), pair, axis=1)
        scores = g("Where", g("GreaterOrEqual", ranks, zero), scores, none)
    location = g("GatherElements", location, g("Div", pair, ints(classes)), axis=1)

    # A power of two for a stride: the product is the same whichever comes first.
    factor = scale * (stride if config.model.distances == "relu" else 1)
    distances = g(
        "GatherND", by_location(level.distances, 4), g("Unsqueeze", location, ints(2)), batch_dims=1
    )
    return _Chosen(
        scores=scores,
        labels=g("Mod", pair, ints(classes)),
        location=location,
        distances=g("Mul", distances, np.float32(factor)),
        geometry=_geometry(g, level, stride, canvas_hw, count, config.model.grid),
    )


def _final_and_ranks(
    g: Graph, scores: Tensor, quality: Tensor | None, config: Config
) -> tuple[Tensor, Tensor]:
    """`postprocess.final_scores`, and what candidates are ranked by: -1 under the threshold."""
    inference = config.inference
    final = scores
    if quality is not None:
        final = g("Mul", scores, quality)
        final = g("Sqrt", final) if inference.sqrt_score else final
    by = {"class": scores, "final": final}
    possible = g("Greater", by[inference.threshold_by], np.float32(inference.score_threshold))
    return final, g("Where", possible, by[inference.top_k_by], none)


def _geometry(
    g: Graph, level: Level, stride: int, canvas_hw: Tensor, count: Tensor, grid: str
) -> Tensor:
    """Columns, steps and offset of a level (`points.locations`), int64 [count, 4]."""
    rows_columns = g("Shape", level.class_logits, start=2)
    columns = g("Gather", rows_columns, ints(1))
    if grid == "center":
        values = g("Concat", columns, ints(stride, stride, stride // 2), axis=0)
    else:
        step_y, step_x = g.several(
            "Split", 2, g("Div", canvas_hw, rows_columns), axis=0, num_outputs=2
        )
        values = g("Concat", columns, step_x, step_y, ints(0), axis=0)
    return g("Expand", values, g("Concat", count, ints(4), axis=0))


def suppressed(
    g: Graph, found: Candidates, image_hw: Tensor, config: Config, classes: int
) -> Candidates:
    """`postprocess.detections` from the candidates on: clipping and class-wise NMS, best first.

    Args:
        g: the graph.
        found: what to choose from.
        image_hw: float [2], the size of the resized image, to which boxes are clipped.
        config: thresholds and counts.
        classes: how many.
    """
    inference = config.inference
    extent = np.float32(extent_of(inference))
    limits = g("Sub", g("Gather", image_hw, ints(1, 0, 1, 0)), extent)  # w, h, w, h

    def clip(found: Candidates) -> Candidates:
        inside = g("Min", g("Max", found.boxes_xyxy, zero), limits)
        low, high = g.several("Split", 2, _extended(g, inside, extent), axis=2, num_outputs=2)
        left = g("Greater", _area(g, low, high), zero)
        return dataclasses.replace(
            found, boxes_xyxy=inside, scores=g("Where", left, found.scores, none)
        )

    found = clip(found) if inference.clip_first else found
    kept = g(
        "NonMaxSuppression",
        _extended(g, found.boxes_xyxy, extent),
        _by_class(g, found, classes),
        np.int64(inference.max_detections),
        np.float32(inference.nms_threshold),
        np.float32(-0.5),
    )  # rows of (image, class, candidate)
    kept = g("Gather", kept, ints(0, 2), axis=1)
    nothing = g("Expand", none, g("Shape", found.scores))
    scores = g("ScatterND", nothing, kept, g("GatherND", found.scores, kept))
    found = _best(g, dataclasses.replace(found, scores=scores), inference.max_detections)
    if inference.clip_first:
        return found
    return _best(g, clip(found), inference.max_detections)


def _extended(g: Graph, boxes_xyxy: Tensor, extent: np.float32) -> Tensor:
    """Boxes whose last pixel belongs to them, as exclusive ones."""
    if not extent:
        return boxes_xyxy
    return g("Add", boxes_xyxy, np.array([0, 0, extent, extent], np.float32))


def _area(g: Graph, low: Tensor, high: Tensor) -> Tensor:
    """Areas [b, n] of boxes that are not inverted."""
    width, height = g.several("Split", 2, g("Sub", high, low), axis=2, num_outputs=2)
    return g("Squeeze", g("Mul", width, height), ints(2))


def _by_class(g: Graph, found: Candidates, classes: int) -> Tensor:
    """Scores [b, c, n]: each candidate's in the row of its class, -1 elsewhere."""
    scores = g("Unsqueeze", found.scores, ints(1))
    if classes == 1:
        return scores
    own = g("Equal", g("Unsqueeze", found.labels, ints(1)), np.arange(classes)[:, None])
    return g("Where", own, scores, none)


def _best(g: Graph, found: Candidates, count: int) -> Candidates:
    """The `count` best candidates, fewer only where there are not so many; best first."""
    available = g("Min", g("Shape", found.scores, start=1), ints(count))
    scores, order = g.several("TopK", 2, found.scores, available, axis=1)
    boxes = g("GatherND", found.boxes_xyxy, g("Unsqueeze", order, ints(2)), batch_dims=1)
    return Candidates(boxes, scores, g("GatherElements", found.labels, order, axis=1))


def outputs(
    g: Graph,
    found: Candidates,
    image_hw: Tensor,
    given_hw: Tensor,
    config: Config,
    categories: Categories,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, scores, category ids and their count, in px of the given image, padded.

    Boxes are rescaled as by `postprocess.rescale`. `image_hw` and `given_hw` are float [2].
    """
    inference = config.inference
    missing = g("Sub", ints(inference.max_detections), g("Shape", found.scores, start=1))
    pads = g("Concat", ints(0, 0, 0), missing, axis=0)
    scores = g("Pad", found.scores, pads, none)
    valid = g("GreaterOrEqual", scores, zero)
    scores = g("Where", valid, scores, zero)

    ids = g("Gather", np.array(categories.ids, np.int32), found.labels)
    ids = g("Where", valid, g("Pad", ids, pads, np.int32(-1)), np.int32(-1))

    boxes = g("Mul", found.boxes_xyxy, g("Gather", g("Div", given_hw, image_hw), ints(1, 0, 1, 0)))
    if inference.inclusive_boxes:
        boxes = _extended(g, boxes, np.float32(1))
    else:
        limits = g("Gather", given_hw, ints(1, 0, 1, 0))
        boxes = g("Min", g("Max", boxes, zero), limits)
    pads = g("Concat", ints(0, 0, 0, 0), missing, ints(0), axis=0)
    boxes = g("Where", g("Unsqueeze", valid, ints(2)), g("Pad", boxes, pads, zero), zero)
    count = g("ReduceSum", g("Cast", valid, to=INT32), ints(1), keepdims=0)
    return boxes, scores, ids, count
