"""Every loss of the family against NumPy, at the corners, and what it may not teach."""

import jax
import jax.numpy as jnp
import loss_oracles as oracles
import numpy as np
import pytest
import scipy.stats
import tiny

from pse_jax.config import Config, LossConfig
from pse_jax.config_checks import validate
from pse_jax.errors import ConfigError
from pse_jax.losses import corrected, correlation, sigmoid_focal_loss
from pse_jax.losses.classification import iou_balanced_weights, task_aligned_target
from pse_jax.losses.detection import describe_loss
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES, Scored, Tied
from pse_jax.targets import Targets

PER_BATCH = [name for name, row in ASSOCIATIONS.items() if row.couples == "batch"]
PER_OBJECT = [name for name, row in ASSOCIATIONS.items() if row.couples == "object"]
ELEMENTWISE = [name for name in ASSOCIATIONS if name not in PER_BATCH + PER_OBJECT]
CONSTANTS = [{}, {"beta": 0.4, "k": 1.3}, {"focal_gamma": 0.0, "focal_alpha": 0.4, "k": 0.7}]


def make_case(rng, images=2, locations=20, classes=3, slots=4):
    """(logits, one_hot, iou, matched) with positives of every object, and some of none."""
    logits = rng.normal(0, 2, (images, locations, classes))
    label = rng.integers(0, classes, (images, locations, 1))
    positive = rng.random((images, locations, 1)) < 0.6
    one_hot = (label == np.arange(classes)) & positive
    return logits, one_hot, rng.random((images, locations)), rng.integers(0, slots, label.shape[:2])


def targets_of(one_hot, matched, slots=4):
    shape = matched.shape
    return Targets(
        positive=jnp.asarray(one_hot.any(-1)),
        label=jnp.asarray(one_hot.argmax(-1), jnp.int32),
        distances=jnp.ones((*shape, 4)),
        stride=jnp.ones(shape),
        matched=jnp.asarray(matched, jnp.int32),
        slots=slots,
    )


def classify(logits, one_hot, iou, matched, config):
    scored = Scored(logits, jnp.asarray(one_hot), iou, targets_of(one_hot, matched))
    return CLASSIFICATIONS[config.classification].function(scored, config)


def associate(logit, iou, config, positive=True, matched=None):
    """Without `matched`, all are positives of one object."""
    positive = jnp.broadcast_to(positive, iou.shape)
    matched = jnp.zeros(iou.shape, jnp.int32) if matched is None else matched
    tied = Tied(logit, iou, positive, targets_of(positive[..., None], matched))
    return ASSOCIATIONS[config.association].function(tied, config)


def differences(function, x, h=1e-5):
    """The gradient of a scalar function of an array, entry by entry."""
    slope = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += h
        down[at] -= h
        slope[at] = (function(up) - function(down)) / (2 * h)
    return slope


@pytest.mark.parametrize("constants", CONSTANTS, ids=str)
@pytest.mark.parametrize("association", ELEMENTWISE)
def test_associations_against_numpy(association, constants):
    config = LossConfig(association=association, **constants)
    logit, iou = (v.ravel() for v in np.meshgrid(np.linspace(-4, 4, 34), np.linspace(0, 1, 13)))
    found = associate(jnp.float32(logit), jnp.float32(iou), config)
    assert found.dtype == jnp.float32
    logit, iou = (np.asarray(np.float32(v), np.float64) for v in (logit, iou))
    wanted = oracles.association(logit, iou, logit, config)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    with jax.enable_x64(True):
        slope = jax.grad(lambda o: associate(o, jnp.asarray(iou), config).sum())
        found = np.asarray(jax.jit(slope)(jnp.asarray(logit)))
    h = 1e-5
    up, down = (oracles.association(logit + s, iou, logit, config) for s in (h, -h))
    np.testing.assert_allclose(found, (up - down) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("constants", CONSTANTS, ids=str)
@pytest.mark.parametrize("classification", CLASSIFICATIONS)
def test_classifications_against_numpy(rng, classification, constants):
    config = LossConfig(classification=classification, association="none", **constants)
    logits, one_hot, iou, matched = make_case(rng)
    logits, iou = (np.asarray(np.float32(v), np.float64) for v in (logits, iou))
    arguments = one_hot, iou, matched
    found = classify(jnp.float32(logits), one_hot, jnp.float32(iou), matched, config)
    wanted = oracles.classification(logits, *arguments, logits, config)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    with jax.enable_x64(True):
        slope = jax.jit(
            jax.grad(lambda o: classify(o, one_hot, jnp.asarray(iou), matched, config).sum())
        )(logits)
    h = 1e-5  # elementwise, once the detached parts are held
    up, down = (oracles.classification(logits + s, *arguments, logits, config) for s in (h, -h))
    np.testing.assert_allclose(slope, (up - down) / (2 * h), atol=1e-7)


@pytest.mark.parametrize("constants", CONSTANTS[:2], ids=str)
@pytest.mark.parametrize("association", PER_BATCH)
def test_correlations_against_numpy(rng, association, constants):
    config = LossConfig(association=association, **constants)
    logit, iou = np.float32(rng.normal(0, 2, (3, 9))), np.float32(rng.random((3, 9)))
    positive = rng.random((3, 9)) < 0.6

    def tie(o):
        return associate(o, jnp.asarray(iou), config, positive)

    def oracle(o):
        return oracles.batch_association(o[positive], iou[positive], config)

    assert float(tie(jnp.asarray(logit))) == pytest.approx(oracle(logit), rel=1e-6, abs=1e-6)
    logit = logit.astype(np.float64)
    with jax.enable_x64(True):
        slope = np.asarray(jax.jit(jax.grad(tie))(jnp.asarray(logit)))
    np.testing.assert_allclose(slope, differences(oracle, logit), atol=1e-7)
    assert (slope[~positive] == 0).all() and (slope[positive] != 0).sum() > 4


@pytest.mark.parametrize("constants", CONSTANTS[:2], ids=str)
@pytest.mark.parametrize("association", PER_OBJECT)
def test_orders_within_objects_against_numpy(rng, association, constants):
    config = LossConfig(association=association, **constants)
    logits, one_hot, iou, matched = make_case(rng)
    logit, positive = np.float32(logits.max(-1)), one_hot.any(-1)
    iou = np.float32(iou.round(1))  # with equals among them

    def tie(o, i):
        return jnp.where(positive, associate(o, i, config, positive, matched), 0.0)

    def oracle(o):
        return oracles.object_association(o, iou, positive, matched, config)

    found = tie(jnp.asarray(logit), jnp.asarray(iou))
    np.testing.assert_allclose(found, oracle(logit), rtol=1e-5, atol=1e-6)
    logit = logit.astype(np.float64)
    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(lambda *v: tie(*v).sum(), (0, 1)))
        by_logit, by_iou = map(np.asarray, slopes(jnp.asarray(logit), jnp.float64(iou)))
    np.testing.assert_allclose(by_logit, differences(lambda o: oracle(o).sum(), logit), atol=1e-7)
    assert (by_iou == 0).all() and (by_logit[~positive] == 0).all()
    assert (by_logit[positive] != 0).mean() > 0.5


def test_the_best_placed_is_drawn_over_the_others_of_its_object():
    logit, iou = jnp.asarray([2.0, 0.0, 1.0, 3.0]), jnp.asarray([0.5, 0.9, 0.9, 0.1])
    matched = jnp.asarray([0, 0, 0, 1])  # the last is alone
    config = LossConfig(association="best_first", beta=2.0)
    loss, slope = jax.value_and_grad(lambda o: associate(o, iou, config, True, matched).sum())(
        logit
    )
    assert loss == pytest.approx(2 * 0.4 * np.log1p(np.exp(2.0)))
    pull = 2 * 0.4 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(slope, [pull, -pull, 0, 0], rtol=1e-6)  # equals are left alone


def test_soft_ranks_are_the_ranks_of_values_on_the_grid(rng):
    """Ties and all; and between the grid's points they are close to them, in the same order."""
    values = rng.choice(33, 40) / 32
    ranks = correlation.soft_rank(jnp.float32(values), jnp.ones(40, bool))
    np.testing.assert_allclose(ranks, (scipy.stats.rankdata(values) - 0.5) / 40, atol=1e-6)
    other = rng.choice(33, 40) / 32
    found = correlation.spearman_loss(
        jnp.float32(values), jnp.float32(other), jnp.ones(40, bool), beta=2.0
    )
    assert float(found) == pytest.approx(
        2 - 2 * scipy.stats.spearmanr(values, other).statistic, abs=1e-6
    )
    values = np.sort(rng.random(500))
    ranks = correlation.soft_rank(jnp.float32(values), jnp.ones(500, bool))
    assert (np.diff(ranks) > 0).all()
    assert np.abs(np.asarray(ranks) - (np.arange(500) + 0.5) / 500).max() < 1 / 32


def test_soft_ranks_leave_nothing_out_and_count_nothing_else(rng):
    values, positive = np.float32(rng.random(60)), rng.random(60) < 0.5
    ranks = correlation.soft_rank(jnp.asarray(values), jnp.asarray(positive))
    alone = correlation.soft_rank(jnp.asarray(values[positive]), jnp.ones(positive.sum(), bool))
    np.testing.assert_allclose(np.asarray(ranks)[positive], alone, rtol=1e-6)


LOGITS = np.float32([-1e4, -1e2, -5, 0, 5, 1e2, 1e4])


CORNERS = [(k, gamma) for k in (0.0, 0.5, 1.0, 1.5) for gamma in (0.0, 2.0)]


def slopes_of(total):
    """Compiled (values, (by_logit, by_iou)) of a function to one value a configuration."""
    both = lambda *arguments: (total(*arguments), jax.jacrev(total, (0, 1))(*arguments))  # noqa: E731
    return jax.jit(both, compiler_options=tiny.FAST)


def check_finite(value, by_logit, by_iou):
    assert np.isfinite(value).all() and np.isfinite(by_logit).all()
    assert (np.asarray(by_iou) == 0).all()  # exactly: the IoU is a constant


@pytest.mark.parametrize("association", ASSOCIATIONS)
def test_associations_are_finite_at_the_corners(association):
    logit, iou = (jnp.ravel(v) for v in np.meshgrid(LOGITS, np.float32([0, 0.5, 1])))

    def total(o, i, positive, k, gamma):
        config = LossConfig(association=association, k=k, focal_gamma=gamma)
        value = associate(o, i, config, positive)
        return value if association in PER_BATCH else jnp.where(positive, value, 0.0).sum()

    slopes = slopes_of(lambda *arrays: jnp.stack([total(*arrays, *corner) for corner in CORNERS]))
    for positive in (
        logit == logit,
        logit == 1e4,
        logit == -1e4,
        iou == 1,
        (logit == 5) & (iou == 0),
    ):
        value, by_both = slopes(logit, iou, positive)
        check_finite(value, *by_both)


@pytest.mark.parametrize("classification", CLASSIFICATIONS)
def test_classifications_are_finite_at_the_corners(classification):
    logit, iou = (jnp.asarray(v) for v in np.meshgrid(LOGITS, np.float32([0, 0.5, 1])))
    logits = jnp.stack([logit, -logit], -1)  # [3, 7, 2]
    matched = np.arange(7)[None].repeat(3, 0) % 3

    def total(o, i, gamma, one_hot):
        config = LossConfig(classification=classification, focal_gamma=gamma)
        return classify(o, np.broadcast_to(one_hot, o.shape), i, matched, config).sum()

    cases = [
        (gamma, one_hot) for gamma in (0.0, 2.0) for one_hot in ((False, False), (True, False))
    ]
    slopes = slopes_of(lambda o, i: jnp.stack([total(o, i, *case) for case in cases]))
    value, by_both = slopes(logits, iou)
    check_finite(value, *by_both)


@pytest.mark.parametrize("association", PER_BATCH)
def test_nothing_to_correlate(association):
    config = LossConfig(association=association)
    slopes = jax.jit(jax.value_and_grad(lambda o, i, positive: associate(o, i, config, positive)))

    def check(scores, ious, positive):
        arguments = (jnp.float32(v) for v in (scores, ious))
        value, slope = slopes(*arguments, jnp.asarray(positive))
        assert value == 0 and (np.asarray(slope) == 0).all()

    check([1.0, -1, 2], [0.2, 0.9, 0.4], [False] * 3)
    check([1.0, -1, 2], [0.2, 0.9, 0.4], [False, True, False])
    if association == "concordance":  # a constant may still be drawn to the mean of the others
        check([0.0, 0, 0], [0.5, 0.5, 0.5], [True] * 3)
    else:
        check([1.0, 1, 1], [0.2, 0.9, 0.4], [True] * 3)
        check([1.0, -1, 2], [0.6, 0.6, 0.6], [True] * 3)


@pytest.mark.parametrize("kind, names", [(associate, ELEMENTWISE), (classify, CLASSIFICATIONS)])
def test_gradients_of_saturated_scores_are_those_of_float64(kind, names):
    """No loss takes the logarithm of a score that float32 has rounded to 0 or 1."""
    logit, iou = np.meshgrid([-33.0, -25, -17, 17, 25, 33], [0.0, 0.5, 1.0])
    one_hot, matched = np.ones((*logit.shape, 1), bool), np.zeros(logit.shape, int)
    field = "association" if kind is associate else "classification"

    def slopes(o, iou):
        def total(o, name):
            config = LossConfig(**{field: name})
            if kind is associate:
                return associate(o, iou, config).sum()
            own, other = (classify(o[..., None], hot, iou, matched, config).sum()
                          for hot in (one_hot, ~one_hot))  # fmt: skip
            return own + other

        return {name: jax.grad(total)(o, name) for name in names}

    found = jax.jit(slopes)(jnp.float32(logit), jnp.float32(iou))
    with jax.enable_x64(True):
        wanted = jax.jit(slopes)(jnp.asarray(logit), jnp.asarray(iou))
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("spread", [0.1, 0.02, 1e-3, 1e-5])
def test_the_gradient_of_a_correlation_is_bounded(rng, spread):
    """Unscaled while the scores spread by 0.01; then it is as if they did. The value is exact."""
    count, beta = 64, 2.0
    noise = rng.normal(size=count)
    score = 0.5 + spread * (noise - noise.mean()) / noise.std()
    iou = rng.random(count)
    everyone = jnp.ones(count, bool)

    def pearson(score):
        return correlation.pearson_loss(score, jnp.asarray(iou), everyone, beta=beta)

    def oracle(score):
        return beta * (1 - np.corrcoef(score, iou)[0, 1])

    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(pearson)(jnp.asarray(score))
    assert float(value) == pytest.approx(oracle(score), rel=1e-9)
    share = min(spread / 0.01, 1.0)
    wanted = share * differences(oracle, score, h=1e-4 * spread)
    np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-7)
    pcc = 1 - oracle(score) / beta
    bound = beta * np.sqrt(1 - pcc**2) / (max(spread, 0.01) * np.sqrt(count))
    assert float(np.linalg.norm(slope)) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("association", PER_BATCH)
def test_scores_that_hardly_differ_pull_no_harder_the_less_they_do(rng, association):
    noise, iou = rng.normal(size=(2, 64))
    iou = np.full(64, 0.5) + 1e-4 * iou if association == "concordance" else 0.5 + 0.1 * iou
    config = LossConfig(association=association)
    slopes = jax.jit(jax.grad(lambda o: associate(o, jnp.asarray(iou), config)))
    with jax.enable_x64(True):
        # p = 1/2, where dp/do is 1/4
        norms = [
            float(np.linalg.norm(slopes(jnp.asarray(s * noise)))) for s in (0.1, 1e-3, 1e-4, 1e-5)
        ]
    assert max(norms) < 0.25 * 32 / (0.01 * 8)
    assert norms[3] < 1.5 * norms[2]


def test_correlations_by_eye():
    iou = jnp.asarray([0.25, 0.5, 0.75, 1.0])  # on the grid of the soft ranks, all of them
    everyone = jnp.ones(4, bool)
    for score, pearson, spearman, concordance in [
        (iou, 0, 0, 0),
        (1.25 - iou, 2, 2, 2),
        (0.5 * iou, 0, 0, 1 - 2 * 10 / (5 + 20 + 25)),  # on a line, not that one: /256
        (iou**2, None, 0, None),  # in order, but not on a line
    ]:
        for loss, wanted in [
            (correlation.pearson_loss, pearson),
            (correlation.spearman_loss, spearman),
            (correlation.concordance_loss, concordance),
        ]:
            found = float(loss(score, iou, everyone))
            if wanted is None:
                assert 0.01 < found < 1
            else:
                assert found == pytest.approx(wanted, abs=1e-6)


def test_the_focal_pull_is_minus_its_gradient():
    logit, gammas = jnp.linspace(-6, 6, 25), (0.0, 0.5, 2.0)

    @jax.jit
    def both(o):
        slopes = [
            jax.grad(lambda o, g=g: sigmoid_focal_loss(o, jnp.ones(25), gamma=g).sum())(o)
            for g in gammas
        ]
        return slopes, [corrected.focal_pull(jax.nn.sigmoid(o), gamma=g) for g in gammas]

    for slope, pull in zip(*both(logit), strict=True):
        np.testing.assert_allclose(pull, -slope, rtol=1e-4, atol=1e-7)


def test_the_logit_loss_pulls_with_the_plain_distance():
    """2β (p̂ - kÎ), where PSE pulls with p̂(1-p̂) times that."""
    logit, iou = jnp.linspace(-9, 9, 37), jnp.linspace(0, 0.8, 37)
    total = jax.grad(lambda o: corrected.pse_logit_loss(o, iou, beta=0.7, k=1.2).sum())
    slope = jax.jit(total)(logit)
    np.testing.assert_allclose(slope, 1.4 * (jax.nn.sigmoid(logit) - 1.2 * iou), atol=1e-6)


def test_a_task_aligned_target_by_eye():
    """Two objects; the best-aligned location of each gets its object's best IoU."""
    score, iou = jnp.asarray([0.5, 0.25, 1.0, 0.1, 0.9]), jnp.asarray([1.0, 1.0, 0.5, 0.8, 0.9])
    positive = jnp.asarray([True, True, True, True, False])
    matched = jnp.asarray([0, 0, 0, 3, 3])
    target, slopes = jax.vjp(lambda *v: task_aligned_target(*v, positive, matched, 4), score, iou)
    # t = s u^6: 0.5, 0.25, 1/64 for object 0, whose best u is 1; object 3 has one location.
    np.testing.assert_allclose(target, [1.0, 0.5, 1 / 32, 0.8, 0.0], rtol=1e-6)
    assert all((slope == 0).all() for slope in slopes(jnp.ones(5)))  # detached


def test_iou_balanced_weights_keep_the_sum(rng):
    losses, quality = (jnp.float32(rng.random(50)) for _ in range(2))
    positive = jnp.asarray(rng.random(50) < 0.5)
    weights = iou_balanced_weights(losses, quality, positive)
    assert (weights[~positive] == 1).all()
    balanced = float((weights * losses)[positive].sum())
    assert balanced == pytest.approx(float(losses[positive].sum()), rel=1e-6)
    order = np.argsort(quality[positive])
    assert (np.diff(np.asarray(weights[positive])[order]) >= 0).all()
    assert (iou_balanced_weights(losses, 0 * quality, positive) == 1).all()  # no box overlaps


@pytest.mark.parametrize(
    "classification, association, why",
    [
        ("qfl", "pse", "would be a second target"),
        ("mal", "tc", "would be a second target"),
        ("vfl", "pse_shifted", "is derived from the focal loss"),
        ("iou_balanced", "pse_logit_shifted", "is derived from the focal loss"),
    ],
)
def test_pairs_that_contradict_each_other(classification, association, why):
    config = Config(loss=LossConfig(classification=classification, association=association))
    with pytest.raises(ConfigError, match=why):
        validate(config)


@pytest.mark.parametrize("classification", CLASSIFICATIONS)
def test_pairs_that_make_sense(classification):
    allowed = {"none", "pearson", "spearman", "concordance", "best_first"}
    if classification in ("focal", "iou_balanced"):
        allowed |= {"pse", "pce", "tc", "pse_logit", "pce_best_first"}
    if classification == "focal":
        allowed |= {"pse_shifted", "pse_logit_shifted"}
    found = set()
    for association in ("none", *ASSOCIATIONS):
        config = Config(loss=LossConfig(classification=classification, association=association))
        try:
            validate(config)
        except ConfigError:
            continue
        found.add(association)
    assert found == allowed


def test_the_log_says_which_losses_are_on():
    said = {
        describe_loss(LossConfig(classification=c, association=a))
        for c in CLASSIFICATIONS
        for a in ("none", *ASSOCIATIONS)
    }
    assert len(said) == len(CLASSIFICATIONS) * (len(ASSOCIATIONS) + 1)
    text = describe_loss(LossConfig(classification="vfl", association="spearman", box="giou"))
    assert text == "VFL + 1*GIoU(smooth=1) + Spearman(beta=1, score=max)"
    text = describe_loss(LossConfig(association="none", target_smooth=1.0))
    assert text.endswith("no association loss; IoU that scores are drawn to: smooth=1")
    assert describe_loss(LossConfig(), "centerness") == (
        "focal(alpha=0.25, gamma=2) + 1*IoU(smooth=1) + BCE(centre-ness) "
        "+ PSE(beta=1, k=1, score=max)"
    )


def test_every_loss_has_its_own_name_and_label():
    rows = [*ASSOCIATIONS.values(), *CLASSIFICATIONS.values()]
    assert len({row.name for row in rows}) == len({row.label for row in rows}) == len(rows)
    assert set(QUALITIES) == {"centerness", "iou"}
