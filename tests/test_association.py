"""PSE, Eq. (8), and PCE, section III-A, against float64 NumPy written from the formulas."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax.config import Config, LossConfig
from pse_jax.losses import pce_loss, pse_loss
from pse_jax.losses.detection import detection_losses
from pse_jax.models import Predictions
from pse_jax.targets import Targets

BOTH = pytest.mark.parametrize("loss", [pse_loss, pce_loss])


def value(loss, score, iou, **options):
    return np.asarray(jax.jit(lambda s, i: loss(s, i, **options))(score, iou))


def gradient(loss, score, iou, **options):
    return np.asarray(jax.jit(jax.grad(lambda s, i: loss(s, i, **options).sum()))(score, iou))


def grid(points=21):
    score, iou = np.meshgrid(np.linspace(0.01, 0.99, points), np.linspace(0, 1, points))
    return jnp.asarray(score, jnp.float32), jnp.asarray(iou, jnp.float32)


def oracle(loss, score, iou, beta, k):
    score, iou = np.asarray(score, np.float64), np.asarray(iou, np.float64)
    if loss is pse_loss:
        return beta * (score - k * iou) ** 2
    return -beta * np.log(1 - np.abs(score - np.clip(k * iou, 0, 1)))


def oracle_gradient(loss, score, iou, beta, k):
    score, iou = np.asarray(score, np.float64), np.asarray(iou, np.float64)
    if loss is pse_loss:
        return 2 * beta * (score - k * iou)
    gap = score - np.clip(k * iou, 0, 1)
    return beta * np.sign(gap) / (1 - np.abs(gap))


@BOTH
def test_signature(loss):
    parameters = inspect.signature(loss).parameters
    assert list(parameters) == ["score", "iou", "beta", "k"]
    assert [parameters[n].default for n in ("beta", "k")] == [1.0, 1.0]
    assert all(parameters[n].kind is inspect.Parameter.KEYWORD_ONLY for n in ("beta", "k"))


def test_by_eye():
    score, iou = jnp.asarray([0.9, 0.5, 0.2]), jnp.asarray([0.4, 0.5, 0.8])
    np.testing.assert_allclose(pse_loss(score, iou), [0.25, 0.0, 0.36], atol=1e-6)
    np.testing.assert_allclose(pse_loss(score, iou, beta=2.0), [0.5, 0.0, 0.72], atol=1e-6)
    np.testing.assert_allclose(pse_loss(score, iou, k=0.5), [0.49, 0.0625, 0.04], atol=1e-6)
    log2 = math.log(2)
    np.testing.assert_allclose(pce_loss(score, iou), [log2, 0.0, -math.log(0.4)], atol=1e-6)
    np.testing.assert_allclose(pce_loss(score, iou, beta=3.0)[0], 3 * log2, rtol=1e-6)


@BOTH
@pytest.mark.parametrize("k", [0.5, 0.9, 1.0, 1.25, 1.5])
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_value_and_gradient_against_numpy(loss, beta, k):
    score, iou = grid()
    found = value(loss, score, iou, beta=beta, k=k)
    np.testing.assert_allclose(found, oracle(loss, score, iou, beta, k), rtol=1e-5, atol=1e-6)
    slope = gradient(loss, score, iou, beta=beta, k=k)
    expected = oracle_gradient(loss, score, iou, beta, k)
    gap = np.asarray(score) - np.clip(k * np.asarray(iou), 0, 1)
    smooth = np.abs(gap) > 1e-6  # |.| has a corner
    np.testing.assert_allclose(
        np.where(smooth, slope, 0), np.where(smooth, expected, 0), rtol=1e-4, atol=1e-6
    )


@BOTH
def test_the_iou_is_a_constant(loss):
    score, iou = grid()
    slope = jax.grad(lambda i: loss(score, i).sum())(iou)
    assert (slope == 0).all()  # exactly
    joint = jax.grad(lambda v: loss(v, 0.5 * v).sum())(score)  # score and IoU from one source
    np.testing.assert_allclose(
        joint, oracle_gradient(loss, score, 0.5 * score, 1.0, 1.0), rtol=1e-4
    )


@BOTH
@pytest.mark.parametrize("k", [0.0, 0.5, 0.75, 1.0, 1.25, 1.5])
def test_finite_at_the_corners(loss, k):
    score, iou = (jnp.asarray(v, jnp.float32) for v in ([0, 0, 1, 1, 0.5, 1], [0, 1, 0, 1, 1, 0.6]))
    found, slope = value(loss, score, iou, k=k), gradient(loss, score, iou, k=k)
    assert np.isfinite(found).all() and np.isfinite(slope).all()
    assert (found >= 0).all()


@BOTH
@pytest.mark.parametrize("logit", [1e2, 1e3, 1e4])
def test_finite_through_the_sigmoid_at_extreme_logits(loss, logit):
    iou = jnp.asarray([0.0, 1.0, 0.0, 1.0])
    logits = jnp.asarray([logit, logit, -logit, -logit])
    for k in (0.5, 1.0, 1.5):
        through = lambda o, k=k: loss(jax.nn.sigmoid(o), iou, k=k).sum()  # noqa: E731
        found, slope = jax.jit(jax.value_and_grad(through))(logits)
        assert np.isfinite(found) and np.isfinite(slope).all()


def test_pse_is_symmetric_about_the_line():
    gap = jnp.linspace(0, 0.4, 9)
    iou = jnp.full_like(gap, 0.5)
    above, below = pse_loss(0.5 + gap, iou), pse_loss(0.5 - gap, iou)
    np.testing.assert_allclose(above, below, atol=1e-7)
    np.testing.assert_allclose(pse_loss(0.4 + gap, iou, k=0.8), np.square(gap), atol=1e-6)


def test_pce_becomes_cross_entropy_at_a_target_of_one_or_zero():
    score = jnp.linspace(0.05, 0.95, 19)
    one, zero = jnp.ones_like(score), jnp.zeros_like(score)
    np.testing.assert_allclose(pce_loss(score, one), -np.log(score), rtol=1e-5)
    np.testing.assert_allclose(pce_loss(score, zero), -np.log1p(-score), rtol=1e-5)
    np.testing.assert_allclose(pce_loss(score, one, k=1.5), -np.log(score), rtol=1e-5)  # cut to 1


@BOTH
def test_least_on_the_line(loss):
    iou = jnp.linspace(0.1, 0.9, 9)
    for k in (0.5, 1.0):
        assert (loss(k * iou, iou, k=k) < 1e-6).all()
        assert (loss(k * iou + 0.05, iou, k=k) > 1e-3).all()
        assert (loss(k * iou - 0.05, iou, k=k) > 1e-3).all()


SATURATED = [float(o) for size in (17, 20, 30, 45, 60) for o in (size, -size)]


def saturated_pce(o, s):
    """Value and slope by the logit of -log(1 - |p - s|), in float64, without rounding p to 1."""
    log_p, log_rest = -np.logaddexp(0, -o), -np.logaddexp(0, o)
    p, rest = np.exp(log_p), np.exp(log_rest)  # each exact where it is small
    above = log_p - log_rest >= np.log(max(s, 1e-300)) - np.log(max(1 - s, 1e-300))
    if above:  # 1 - (p - s)
        return -np.log(rest + s) if s > 0 else -log_rest, p * rest / (rest + s)
    return -np.log(p + (1 - s)) if s < 1 else -log_p, -p * rest / (p + (1 - s))


@pytest.mark.parametrize("k", [1.0, 1.25])
@pytest.mark.parametrize("score", ["max", "target"])
def test_pce_trains_a_score_that_is_saturated_on_the_wrong_side(score, k):
    """In float32 sigmoid(17) is 1; through the objective, with the score of either kind."""
    logits = np.repeat(SATURATED, 3).astype(np.float32)
    ious = np.tile([0.0, 0.5, 1.0], len(SATURATED))
    # 8 x 8 px predicted inside by (1 - IoU) of its width; the other class lies further down.
    wanted = np.full((1, len(ious), 4), 4.0, np.float32)
    found = wanted * np.stack([ious, np.ones_like(ious)] * 2, -1)[None].astype(np.float32)
    both = np.stack([logits, logits - 5], -1)[None]
    everywhere = np.ones((1, len(ious)), bool)
    label = np.zeros((1, len(ious)), np.int32)
    targets = Targets(*map(jnp.asarray, (everywhere, label, wanted)), jnp.full((1, len(ious)), 8.0))
    config = Config(loss=LossConfig(association="pce", score=score, k=k))

    def association(both):
        predictions = Predictions(both, jnp.asarray(found))
        return detection_losses(predictions, targets, jnp.ones(1, bool), config).association

    value, slope = jax.jit(jax.value_and_grad(association))(jnp.asarray(both))
    pairs = zip(logits.astype(np.float64), ious, strict=True)
    expected = np.array([saturated_pce(o, min(k * iou, 1.0)) for o, iou in pairs])
    assert float(value) == pytest.approx(expected[:, 0].mean(), rel=1e-6)
    np.testing.assert_allclose(slope[0, :, 0] * len(ious), expected[:, 1], rtol=1e-4, atol=1e-7)
    assert (slope[0, :, 1] == 0).all()
    wrong = ((logits > 0) & (ious == 0)) | ((logits < 0) & (ious == 1))
    np.testing.assert_allclose(np.abs(slope[0, wrong, 0]) * len(ious), 1.0, rtol=1e-5)
