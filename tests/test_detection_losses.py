"""The whole objective against plain loops in float64; padding, divisor, empty images."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from oracles import loop_losses

from pse_jax import boxes
from pse_jax.config import Config, LossConfig, ModelConfig
from pse_jax.losses.detection import detection_losses
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS
from pse_jax.models import Predictions
from pse_jax.targets import Targets, centerness

CONFIGS = [
    LossConfig(),
    LossConfig(score="target"),
    LossConfig(association="none"),
    LossConfig(association="pce", beta=0.5, k=1.25, score="target", iou_smooth=0.0),
    LossConfig(association="pce", box_weight=2.0, focal_alpha=0.4, focal_gamma=1.0),
    LossConfig(beta=2.0, k=0.8, iou_smooth=0.0, focal_gamma=0.0),
    LossConfig(target_smooth=1.0),  # the authors' reading
]
TERMS = ("classification", "box", "association", "positives")


def make_batch(rng, images=2, locations=30, classes=3, share=0.3):
    """(logits, distances, positive, label, wanted distances, image_valid) as NumPy arrays."""
    f32 = lambda *shape: rng.uniform(1, 40, shape).astype(np.float32)  # noqa: E731
    return (
        rng.normal(0, 2, (images, locations, classes)).astype(np.float32),
        f32(images, locations, 4),
        rng.random((images, locations)) < share,
        rng.integers(0, classes, (images, locations)).astype(np.int32),
        f32(images, locations, 4),
        np.ones(images, bool),
    )


def make_targets(positive, label, distances):
    stride = jnp.full(positive.shape, 8.0)
    return Targets(*map(jnp.asarray, (positive, label, distances)), stride)


@functools.cache
def compiled(fields):
    """A jitted function a configuration: gradients by logits and by distances, and the losses."""
    config = Config(loss=LossConfig(*fields))

    def total(logits, distances, targets, image_valid):
        losses = detection_losses(Predictions(logits, distances), targets, image_valid, config)
        return losses.total, losses

    return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))


def evaluate(batch, config):
    """(terms as floats, gradients of the total by logits and by distances)."""
    targets = make_targets(*batch[2:5])
    slopes, losses = compiled(dataclasses.astuple(config))(*batch[:2], targets, batch[5])
    total = float(losses.total)
    assert total == pytest.approx(sum(float(getattr(losses, t)) for t in TERMS[:3]), rel=1e-6)
    return [float(getattr(losses, term)) for term in TERMS], [np.asarray(s) for s in slopes]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.association}-{c.score}-{c.beta:g}")
def test_against_loops(rng, config):
    batch = make_batch(rng)
    found, slopes = evaluate(batch, config)
    np.testing.assert_allclose(found, loop_losses(batch, config), rtol=3e-6)
    assert all(np.isfinite(s).all() for s in slopes)
    assert found[3] == batch[2].sum() > 0
    assert (found[2] == 0) == (config.association == "none")
    # Boxes learn at positives only, and there always.
    np.testing.assert_array_equal((slopes[1] != 0).any(axis=-1), batch[2])


def test_by_eye():
    """One positive of class 1 with score 1/2 everywhere, predicted 5 x 5 inside 10 x 10."""
    batch = (
        np.zeros((1, 1, 2), np.float32),
        np.full((1, 1, 4), 2.5, np.float32),
        np.ones((1, 1), bool),
        np.ones((1, 1), np.int32),
        np.full((1, 1, 4), 5.0, np.float32),
        np.ones(1, bool),
    )
    found, _ = evaluate(batch, LossConfig(iou_smooth=0.0))
    log2 = math.log(2)
    np.testing.assert_allclose(found, [0.25 * log2, 2 * log2, 0.0625, 1], rtol=1e-6)
    found, _ = evaluate(batch, LossConfig())
    np.testing.assert_allclose(found[1:3], [math.log(101 / 26), 0.0625], rtol=1e-6)
    found, _ = evaluate(batch, LossConfig(target_smooth=1.0))
    np.testing.assert_allclose(found[1:3], [math.log(101 / 26), (0.5 - 26 / 101) ** 2], rtol=1e-6)


def test_the_divisor_is_the_number_of_positives_of_the_whole_batch(rng):
    one, other = make_batch(rng, images=1, share=0.2), make_batch(rng, images=1, share=0.6)
    joined = tuple(np.concatenate(pair) for pair in zip(one, other, strict=True))
    a, b, both = (np.asarray(evaluate(x, LossConfig())[0]) for x in (one, other, joined))
    assert both[3] == a[3] + b[3] and a[3] != b[3]
    np.testing.assert_allclose(both[:3] * both[3], a[:3] * a[3] + b[:3] * b[3], rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS[:4], ids=lambda c: f"{c.association}-{c.score}")
def test_without_any_positive(rng, config):
    batch = make_batch(rng, share=0.0)
    found, (by_logit, by_distance) = evaluate(batch, config)
    np.testing.assert_allclose(found, loop_losses(batch, config), rtol=3e-6)
    assert found[0] > 0 and found[1:] == [0, 0, 0]
    assert np.isfinite(by_logit).all() and (by_logit > 0).all()
    assert (by_distance == 0).all()


def test_an_image_without_objects_is_all_negatives(rng):
    batch = make_batch(rng)
    batch[2][1] = False
    found, slopes = evaluate(batch, LossConfig())
    np.testing.assert_allclose(found, loop_losses(batch, LossConfig()), rtol=3e-6)
    assert (slopes[0][1] > 0).all() and (slopes[1][1] == 0).all()


@pytest.mark.parametrize("config", CONFIGS[:4], ids=lambda c: f"{c.association}-{c.score}")
def test_padding_images_change_nothing(rng, config):
    batch = make_batch(rng)
    plain, plain_slopes = evaluate(batch, config)
    padding = make_batch(rng, images=2, share=0.5)  # even with "positives"
    padding[5][:] = False
    padded = tuple(np.concatenate(pair) for pair in zip(batch, padding, strict=True))
    found, slopes = evaluate(padded, config)
    np.testing.assert_allclose(found, plain, rtol=1e-6)
    for slope, alone in zip(slopes, plain_slopes, strict=True):
        np.testing.assert_allclose(slope[:2], alone, rtol=1e-5, atol=1e-8)
        assert (slope[2:] == 0).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.association}-{c.score}-{c.beta:g}")
def test_a_batch_of_padding_only(rng, config):
    batch = make_batch(rng)
    batch[5][:] = False
    found, slopes = evaluate(batch, config)
    assert found == [0, 0, 0, 0]
    assert all((s == 0).all() for s in slopes)


@pytest.mark.parametrize("association", ["pse", "pce"])
@pytest.mark.parametrize("score", ["max", "target"])
def test_the_association_teaches_the_boxes_exactly_nothing(rng, association, score):
    logits, distances, *rest, image_valid = make_batch(rng)
    targets = make_targets(*rest)
    config = Config(loss=LossConfig(association=association, score=score))

    def association_alone(logits, distances):
        predictions = Predictions(logits, distances)
        return detection_losses(predictions, targets, jnp.asarray(image_valid), config).association

    by_logit, by_distance = jax.jit(jax.grad(association_alone, (0, 1)))(logits, distances)
    assert (by_distance == 0).all()
    assert ((by_logit != 0).sum(axis=-1) == targets.positive).all()  # one class a positive


def test_finite_at_extreme_predictions(rng):
    logits, distances, *rest = make_batch(rng)
    sign = np.where(logits > 0, 1, -1).astype(np.float32)
    for size, distance in [(1e3, 1e-6), (1e4, 1e4), (80.0, 1e8)]:
        wild = (sign * np.float32(size), np.full_like(distances, distance), *rest)
        for config in CONFIGS:
            found, slopes = evaluate(wild, config)
            assert np.isfinite(found).all(), (size, config)
            assert all(np.isfinite(s).all() for s in slopes), (size, config)


def test_what_lies_away_from_positives_never_reaches_the_box_terms(rng):
    batch = make_batch(rng)
    plain, _ = evaluate(batch, LossConfig())
    for value in (np.inf, 0.0, np.nan):
        batch[1][~batch[2]] = value
        batch[4][~batch[2]] = value
        found, slopes = evaluate(batch, LossConfig())
        assert found == plain
        assert all(np.isfinite(s).all() for s in slopes)


def test_giou_by_eye():
    """Predicted 4 x 4 in the corner of 8 x 8 around a point: the hull is the larger box."""
    giou = boxes.distance_giou(jnp.asarray([0.0, 0, 4, 4]), jnp.asarray([0.0, 0, 8, 8]))
    assert float(giou) == pytest.approx(0.25)
    # 6 x 2 crossing 2 x 6 around their centre: IoU 4/20, hull 36 of which 16 are empty.
    giou = boxes.distance_giou(jnp.asarray([3.0, 1, 3, 1]), jnp.asarray([1.0, 3, 1, 3]))
    assert float(giou) == pytest.approx(4 / 20 - 16 / 36)


def test_centerness_by_eye():
    found = centerness(jnp.asarray([[4.0, 3, 4, 3], [1, 2, 4, 8], [1, 1, 9, 1]]))
    np.testing.assert_allclose(found, [1.0, 0.25, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("quality", ["centerness", "iou"])
@pytest.mark.parametrize("distances", ["exp", "relu"])
@pytest.mark.parametrize("box", ["iou", "giou"])
def test_the_variants_against_loops(rng, quality, distances, box):
    """FCOS, sec. 3.2: box loss weighted by centre-ness, a third branch; and its improvements."""
    logits, found, positive, label, wanted, image_valid = make_batch(rng)
    quality_logits = rng.normal(size=positive.shape).astype(np.float32)
    config = Config(
        model=ModelConfig(quality=quality, distances=distances),
        loss=LossConfig(association="none", box=box, box_by_centerness=True),
    )

    def terms(found, quality_logits):
        predictions = Predictions(jnp.asarray(logits), found, quality_logits)
        targets = make_targets(positive, label, wanted)
        losses = detection_losses(predictions, targets, jnp.asarray(image_valid), config)
        return losses.box, losses.quality

    weights, box_sum, quality_sum = 0.0, 0.0, 0.0
    for at in zip(*np.nonzero(positive), strict=True):
        unit = 8.0 if distances == "relu" else 1.0
        a, b = found[at].astype(float) / unit, wanted[at].astype(float) / unit
        area = lambda d: (d[0] + d[2]) * (d[1] + d[3])  # noqa: E731
        both, hull = area(np.minimum(a, b)), area(np.maximum(a, b))
        union = area(a) + area(b) - both
        iou = (both + 1) / (union + 1)
        loss = -math.log(iou) if box == "iou" else 1 - (iou - (hull - union) / hull)
        left, top, right, bottom = b
        weight = math.sqrt(
            min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
        )
        weights, box_sum = weights + weight, box_sum + weight * loss
        p = 1 / (1 + math.exp(-float(quality_logits[at])))
        target = weight if quality == "centerness" else both / union
        quality_sum -= target * math.log(p) + (1 - target) * math.log(1 - p)
    expected = box_sum / weights, quality_sum / positive.sum()
    arguments = jnp.asarray(found), jnp.asarray(quality_logits)
    np.testing.assert_allclose(terms(*arguments), expected, rtol=1e-5)
    by_distance = jax.grad(lambda *x: terms(*x)[1])(*arguments)
    assert (by_distance == 0).all()  # the branch's target is detached


SCORED = {
    **{name: LossConfig(association=name) for name in ASSOCIATIONS},
    **{name: LossConfig(classification=name, association="none") for name in CLASSIFICATIONS},
    "the IoU branch": LossConfig(association="none"),
    "the authors' reading": LossConfig(target_smooth=1.0),
}
LOGITS = np.random.default_rng(3).normal(size=(1, 4, 3)).astype(np.float32)  # 2 classes, a branch


@functools.cache
def compiled_family(distances):
    """Losses and gradients of everything in SCORED, of four objects of 8 x 8 px at stride 8."""
    everywhere, wanted = jnp.ones((1, 4), bool), jnp.full((1, 4, 4), 4.0)
    targets = dataclasses.replace(
        make_targets(everywhere, jnp.zeros((1, 4), int), wanted),
        matched=jnp.arange(4)[None] % 2,
        slots=2,
    )

    def total(logits, found, loss):
        predictions = Predictions(logits[..., :2], found, logits[..., 2])
        config = Config(model=ModelConfig(quality="iou", distances=distances), loss=loss)
        losses = detection_losses(predictions, targets, jnp.ones(1, bool), config)
        return losses.total, losses

    gradient = jax.grad(total, (0, 1), has_aux=True)
    return jax.jit(
        lambda logits, found: {
            name: gradient(logits, found, loss) for name, loss in SCORED.items()
        },
        compiler_options=tiny.FAST,
    )


def small_boxes(sizes, distances):
    """The same, with the objects predicted as squares of so many px around their centres."""
    half = np.asarray(sizes, np.float32)[None, :, None] / 2
    return compiled_family(distances)(LOGITS, np.broadcast_to(half, (1, 4, 4)))


@pytest.mark.parametrize("distances", ["exp", "relu"])
def test_an_8_px_box_predicted_as_4_px_has_iou_a_quarter(distances):
    """Whatever the unit of the distances: the box loss alone has the authors' +1."""
    found = small_boxes([4.0] * 4, distances)
    score = 1 / (1 + np.exp(-LOGITS[0, :, :2].max(axis=-1)))
    smoothed = 17 / 65 if distances == "exp" else 1.25 / 2
    for name, iou in (("pse", 0.25), ("the authors' reading", smoothed)):
        losses = found[name][1]
        assert float(losses.box) == pytest.approx(-math.log(smoothed), rel=1e-5)
        assert float(losses.association) == pytest.approx(np.mean((score - iou) ** 2), rel=1e-5)


def test_scores_learn_the_same_from_distances_in_strides_as_in_pixels():
    sizes = [4.0, 6.0, 7.0, 8.0]
    pixels, strides = (small_boxes(sizes, distances) for distances in ("exp", "relu"))
    for name in SCORED:
        same = name != "the authors' reading"
        (slopes, losses), (by_pixels, wanted) = strides[name], pixels[name]
        for term in ("classification", "association"):
            value = float(getattr(wanted, term))
            close = float(getattr(losses, term)) == pytest.approx(value, rel=1e-5, abs=1e-7)
            assert close == (same or term == "classification"), (name, term)
        close = np.allclose(slopes[0], by_pixels[0], rtol=1e-4, atol=1e-7)
        assert close == same, name


@pytest.mark.parametrize("sizes", [[0.0] * 4, [0.0, 0.0, 4.0, 8.0]], ids=["none", "some"])
def test_boxes_without_area(sizes):
    """ReLU distances may be 0 at the start: then Î is 0, and every gradient is finite."""
    for name, (slopes, losses) in small_boxes(sizes, "relu").items():
        assert all(np.isfinite(float(value)) for value in vars(losses).values()), name
        assert all(np.isfinite(slope).all() for slope in slopes), name
        assert (np.asarray(slopes[0]) != 0).any(), name
    score = 1 / (1 + np.exp(-LOGITS[0, :, :2].max(axis=-1)))
    association = small_boxes(sizes, "relu")["pse"][1].association
    expected = np.mean((score - np.square(np.asarray(sizes) / 8)) ** 2)
    assert float(association) == pytest.approx(expected, rel=1e-5)
