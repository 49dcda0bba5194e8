"""Top-k and the whole way from predictions to detections, against plain Python."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import loop_nms

from pse_jax import postprocess
from pse_jax.config import InferenceConfig
from pse_jax.models import Predictions
from pse_jax.points import level_shapes, locations

SHAPE = (64, 96)


@pytest.mark.parametrize("top_k", [1, 7, 50, 500])
def test_top_candidates_against_all_pairs(rng, top_k):
    scores = rng.permutation(200).reshape(50, 4).astype(np.float32) / 200  # all different
    boxes = rng.uniform(0, 90, (50, 4)).astype(np.float32)
    config = InferenceConfig(top_k=top_k, score_threshold=0.5)
    found = jax.jit(lambda s, b: postprocess.top_candidates(s, None, b, config))(scores, boxes)
    pairs = sorted((-scores[p, c], p, c) for p in range(50) for c in range(4))[:top_k]
    assert found.scores.shape == (min(top_k, 200),)
    over = [(-s, p, c) for s, p, c in pairs if -s > 0.5]  # 0.5 is not over
    assert found.valid.sum() == found.valid[: len(over)].sum() == len(over)
    np.testing.assert_array_equal(found.scores[: len(over)], [s for s, _, _ in over])
    np.testing.assert_array_equal(found.boxes_xyxy[: len(over)], boxes[[p for _, p, _ in over]])
    np.testing.assert_array_equal(found.labels[: len(over)], [c for _, _, c in over])


@pytest.mark.parametrize("threshold_by", ["class", "final"])
@pytest.mark.parametrize("top_k_by", ["class", "final"])
@pytest.mark.parametrize("root", [False, True])
def test_candidates_with_a_quality_branch(rng, threshold_by, top_k_by, root):
    scores = rng.permutation(200).reshape(50, 4).astype(np.float32) / 200
    quality, boxes = rng.random(50).astype(np.float32), rng.uniform(0, 90, (50, 4))
    config = InferenceConfig(
        top_k=20, score_threshold=0.4, threshold_by=threshold_by, top_k_by=top_k_by, sqrt_score=root
    )
    run = lambda s, q, b: postprocess.top_candidates(s, q, b, config)  # noqa: E731
    found = jax.jit(run)(scores, quality, boxes.astype(np.float32))
    pairs = []
    for p, c in np.ndindex(50, 4):
        final = scores[p, c] * quality[p]
        final = np.sqrt(final) if root else final
        by = {"class": scores[p, c], "final": final}
        if by[threshold_by] > 0.4:
            pairs.append((by[top_k_by], p, c, final))
    pairs = sorted(pairs, reverse=True)[:20]
    count = len(pairs)
    assert found.valid.sum() == count > 5
    np.testing.assert_allclose(found.scores[:count], [final for *_, final in pairs], rtol=1e-6)
    np.testing.assert_array_equal(found.labels[:count], [c for _, _, c, _ in pairs])
    np.testing.assert_allclose(found.boxes_xyxy[:count], boxes[[p for _, p, _, _ in pairs]])


def test_top_candidates_may_all_be_one_location():
    scores = jnp.asarray([[0.1, 0.2], [0.9, 0.8], [0.3, 0.7]])
    config = InferenceConfig(top_k=2)
    found = postprocess.top_candidates(scores, None, jnp.eye(3, 4), config)
    np.testing.assert_allclose(found.scores, [0.9, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes_xyxy, np.eye(3, 4)[[1, 1]])


def loop_detect(logits, distances, size_hw, config):
    height, width = size_hw
    points, _ = locations(*SHAPE)
    candidates, start = [], 0
    for rows, columns in level_shapes(*SHAPE):
        level = []
        for p in range(start, start + rows * columns):
            (x, y), (left, top, right, bottom) = points[p].tolist(), distances[p].tolist()
            x1, x2 = (min(max(v, 0.0), width) for v in (x - left, x + right))
            y1, y2 = (min(max(v, 0.0), height) for v in (y - top, y + bottom))
            for c, logit in enumerate(logits[p].tolist()):
                score = 1 / (1 + np.exp(-logit))
                if score > config.score_threshold:
                    level.append((score, c, [x1, y1, x2, y2]))
        best = sorted(level, key=lambda v: -v[0])[: config.top_k]
        # After the cut to top_k, as in FCOS: a box without area takes another's place.
        candidates += [v for v in best if v[2][2] > v[2][0] and v[2][3] > v[2][1]]
        start += rows * columns
    scores, labels, boxes = zip(*candidates, strict=True)
    valid = [True] * len(boxes)
    kept = loop_nms(boxes, scores, labels, valid, config.nms_threshold, config.max_detections)
    return [(scores[i], labels[i], boxes[i]) for i in kept], len(candidates)


@functools.cache
def compiled_detect(top_k, threshold, count):
    config = InferenceConfig(top_k=top_k, score_threshold=threshold, max_detections=count)
    run = lambda p, hw, ok: postprocess.detections(p, hw, ok, SHAPE, config)  # noqa: E731
    return jax.jit(run), config


def detect(logits, distances, size_hw, image_valid=True, options=(15, 0.3, 20)):
    predictions = Predictions(jnp.asarray(logits), jnp.asarray(distances))
    return compiled_detect(*options)[0](
        predictions, np.asarray(size_hw, np.int32), np.asarray(image_valid)
    )


def random_predictions(rng, classes=3):
    count = len(locations(*SHAPE)[0])
    distances = rng.uniform(0, 24, (count, 4)).astype(np.float32)
    return rng.normal(-1, 1, (count, classes)).astype(np.float32), distances


def test_detect_against_plain_python(rng):
    config = compiled_detect(15, 0.3, 20)[1]
    for size_hw in [(64, 96), (50, 90), (45, 70)]:
        logits, distances = random_predictions(rng)
        found = detect(logits, distances, size_hw)
        expected, candidates = loop_detect(logits, distances, size_hw, config)
        assert candidates > len(expected)  # NMS or the cap had something to do
        count = int(found.valid.sum())
        assert count == len(expected) > 5
        np.testing.assert_allclose(found.scores[:count], [e[0] for e in expected], rtol=1e-5)
        np.testing.assert_array_equal(found.labels[:count], [e[1] for e in expected])
        np.testing.assert_allclose(found.boxes_xyxy[:count], [e[2] for e in expected], atol=1e-4)


def quiet(rng):
    """No class anywhere, boxes 8 px wide and high."""
    logits, distances = random_predictions(rng)
    return np.full_like(logits, -9.0), np.full_like(distances, 4.0)


def test_detect_by_eye(rng):
    logits, distances = quiet(rng)
    assert not detect(logits, distances, SHAPE).valid.any()
    logits[0, 1] = 2.0  # at (4, 4)
    logits[13, 2] = logits[13, 0] = 1.0  # at (12, 12): two classes
    distances[0, :2] = 10.0  # over the corner
    found = detect(logits, distances, SHAPE)
    assert found.valid.tolist() == [True] * 3 + [False] * 17
    assert found.labels.tolist()[:3] == [1, 0, 2]
    assert found.boxes_xyxy.tolist()[:3] == [[0, 0, 8, 8], [8, 8, 16, 16], [8, 8, 16, 16]]
    np.testing.assert_allclose(found.scores[:3], [0.880797, 0.731059, 0.731059], rtol=1e-5)


def test_the_score_threshold_is_strict(rng):
    logits, distances = quiet(rng)
    logits[0, 0], logits[5, 0] = 0.0, 0.01  # scores 0.5 and 0.5025
    found = detect(logits, distances, SHAPE, options=(15, 0.5, 20))
    assert found.valid.sum() == 1 and found.boxes_xyxy[0].tolist() == [40, 0, 48, 8]


def test_boxes_in_the_padding_are_dropped_and_others_cut(rng):
    logits, distances = quiet(rng)
    logits[[11, 10, 9], 0] = [3.0, 2.0, 1.0]  # at x = 92, 84 and 76, 8 px wide
    found = detect(logits, distances, (64, 84))
    assert found.valid.sum() == 2
    assert found.boxes_xyxy.tolist()[:2] == [[80, 0, 84, 8], [72, 0, 80, 8]]


def test_never_more_than_the_maximum_and_the_best_of_them(rng):
    logits, distances = random_predictions(rng)
    distances[:] = 0.25  # apart: NMS drops none
    found = detect(logits, distances, SHAPE, options=(1000, 0.0, 100))
    assert found.valid.all() and found.valid.shape == (100,)
    best = np.sort(1 / (1 + np.exp(-logits.astype(float))).ravel())[::-1][:100]
    np.testing.assert_allclose(found.scores, best, rtol=1e-5)
    assert InferenceConfig().max_detections == 100


def test_an_image_that_only_fills_up_a_batch_has_none(rng):
    logits, distances = random_predictions(rng)
    config = compiled_detect(15, 0.3, 20)[1]
    found = postprocess.detections(
        Predictions(jnp.asarray(logits), jnp.asarray(distances)),
        jnp.asarray([50, 90]),
        jnp.asarray(False),
        SHAPE,
        config,
    )
    for name in ("boxes_xyxy", "scores", "labels", "valid"):
        assert not np.asarray(getattr(found, name)).any()


def test_rescale_by_eye():
    boxes = jnp.asarray([[[10, 20, 30, 40], [0, 0, 100, 50]]], jnp.float32)
    detections = postprocess.PaddedDetections(
        boxes, jnp.ones((1, 2)), jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    )
    moved = postprocess.rescale(detections, jnp.asarray([[2.0, 0.5]]), jnp.asarray([[24.0, 199.0]]))
    assert moved.boxes_xyxy.tolist() == [[[20, 10, 60, 20], [0, 0, 199, 24]]]


def test_rescale_of_inclusive_boxes_adds_the_last_pixel_after_the_scaling():
    """A box over the whole of a 10 x 20 px image is 0, 0, 19, 9 there, and whole again here."""
    boxes = jnp.asarray([[[0.0, 0, 19, 9]]])
    one = jnp.ones((1, 1))
    detections = postprocess.PaddedDetections(boxes, one, one.astype(jnp.int32), one > 0)
    moved = postprocess.rescale(
        detections, jnp.asarray([[2.0, 2.0]]), jnp.asarray([[20.0, 40.0]]), inclusive=True
    )
    assert moved.boxes_xyxy.tolist() == [[[0, 0, 39, 19]]]  # 38 + 1, as maskrcnn-benchmark's


def test_inclusive_boxes_overlap_by_one_pixel_more():
    """3 x 3 and 3 x 3 px shifted by one: 2·3 of 12 exclusive; inclusive 4 x 4, 3·4 of 20."""
    boxes = jnp.asarray([[0.0, 0, 3, 3], [1, 0, 4, 3]])
    candidates = postprocess.Candidates(
        boxes, jnp.asarray([0.9, 0.8]), jnp.zeros(2, jnp.int32), jnp.ones(2, bool)
    )
    count = lambda threshold, extent: int(  # noqa: E731
        postprocess.non_maximum_suppression(candidates, threshold, 2, extent).valid.sum()
    )
    assert (count(0.49, 0.0), count(0.51, 0.0)) == (1, 2)  # IoU 6 / 12
    assert (count(0.59, 1.0), count(0.61, 1.0)) == (1, 2)  # IoU 12 / 20


def test_boxes_cut_before_or_after_nms():
    """Two boxes that differ outside of the image only are one within it."""
    logits = np.full((len(locations(*SHAPE)[0]), 1), -9.0, np.float32)
    distances = np.ones((len(logits), 4), np.float32)
    logits[:2, 0] = 3.0, 2.0  # at (4, 4) and (12, 4)
    distances[0], distances[1] = [4, 4, 10, 10], [200, 4, 2, 10]
    counts = []
    for first in (True, False):
        config = InferenceConfig(clip_first=first)
        found = postprocess.detections(
            Predictions(jnp.asarray(logits), jnp.asarray(distances)),
            jnp.asarray(SHAPE, jnp.int32),
            jnp.asarray(True),
            SHAPE,
            config,
        )
        counts.append(int(found.valid.sum()))
    assert counts == [1, 2]
