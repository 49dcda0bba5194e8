"""Where the losses of the family settle, from the implementation itself."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax.config import LossConfig
from pse_jax.errors import ConfigError
from pse_jax.experiments import landscape
from pse_jax.experiments.landscape import positive_loss, stationary_scores
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES
from pse_jax.verbs import losses

IOUS = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
FAMILY = landscape.family(LossConfig())
# Without two that are detached in part: where their gradient is zero, their value is not least.
SETTLING = [name for name in FAMILY if name not in ("tc", "ia_bce")]


def stationary_score(iou, loss):
    return float(stationary_scores(np.array([iou]), loss)[0])


@pytest.mark.parametrize("beta", [0.25, 1.0, 2.0])
def test_the_papers_curve_without_focusing(beta):
    """γ = 0: p̂ - α/(2βp̂) = kÎ, corrected Eq. (11), or p̂ = 1 where that has no root below."""
    found = stationary_scores(IOUS, LossConfig(focal_gamma=0.0, beta=beta, k=0.9))
    inside = found < 1
    assert inside.sum() >= 3
    np.testing.assert_allclose(
        (found - 0.25 / (2 * beta * found))[inside], 0.9 * IOUS[inside], atol=1e-9
    )
    assert (1 - 0.25 / (2 * beta) <= 0.9 * IOUS[~inside]).all()


@pytest.mark.parametrize(
    "beta, wanted",
    [
        (0.25, (0.524, 0.551, 0.613, 0.688, 0.783, 0.912, 1.0)),
        (0.5, (0.430, 0.463, 0.540, 0.635, 0.755, 0.907, 1.0)),
        (0.75, (0.376, 0.413, 0.499, 0.607, 0.741, 0.905, 1.0)),
        (1.0, (0.339, 0.379, 0.472, 0.590, 0.733, 0.904, 1.0)),
        (1.25, (0.312, 0.353, 0.453, 0.577, 0.728, 0.903, 1.0)),
        (2.0, (0.258, 0.304, 0.416, 0.555, 0.719, 0.902, 1.0)),
    ],
)
def test_the_papers_curve_with_the_focal_loss(beta, wanted):
    found = stationary_scores(IOUS, LossConfig(beta=beta))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=6e-4)


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.25), (0.5, 0.6), (3.0, 0.25)])
@pytest.mark.parametrize("association", ["pse_shifted", "pse_logit_shifted"])
def test_the_shifted_losses_settle_on_the_line(association, gamma, alpha):
    """The first flaw corrected: p̂ = kÎ exactly, down to 0.05."""
    ious = np.array([0.0, 0.04, 0.06, 0.2, 0.4, 0.6, 0.8, 0.95])
    loss = LossConfig(
        association=association, focal_gamma=gamma, focal_alpha=alpha, k=0.9, beta=2.0
    )
    found = stationary_scores(ious, loss)
    np.testing.assert_allclose(found, np.maximum(0.9 * ious, 0.05), atol=1e-9)


@pytest.mark.parametrize("association", ["pse", "pse_shifted", "pse_logit", "pse_logit_shifted"])
def test_there_is_one_valley_and_it_is_the_lowest_point(association):
    """The gradient changes its sign once between scores of 1e-13 and 1 - 1e-13."""
    with jax.enable_x64(True):
        logit, iou = jnp.meshgrid(jnp.linspace(-30, 30, 3001), jnp.linspace(0, 0.99, 34))

        def slope(o, beta):
            loss = LossConfig(association=association, beta=beta)
            return jax.grad(lambda o: positive_loss(o, iou, loss).sum())(o)

        betas = (0.1, 0.25, 0.5, 0.65, 1.0, 2.0)
        slopes = jax.jit(lambda o: {beta: slope(o, beta) for beta in betas})(logit)
    for beta, found in slopes.items():
        upwards = np.asarray(found) < 0
        assert upwards[:, 0].all(), beta  # however low the score, the positive is pulled up
        assert (np.diff(upwards.astype(int), axis=1) <= 0).all(), beta


def test_from_what_weight_on_both_corrections_settle_on_the_line():
    """Below β = 0.65 the pull is cut for the loss to stay bounded, and the valley lies higher."""
    ious = np.linspace(0, 0.3, 31)
    for beta, on_the_line in ((0.25, False), (0.65, True)):
        found = stationary_scores(ious, LossConfig(association="pse_logit_shifted", beta=beta))
        above = found - np.maximum(ious, 0.05)
        assert above.min() > -1e-9 and (above.max() < 1e-9) == on_the_line
        assert (above[ious >= 0.15] < 1e-9).all()


@pytest.mark.parametrize("name", SETTLING)
def test_no_score_near_it_is_better(name):
    loss = FAMILY[name]
    found = stationary_scores(IOUS, loss)
    with jax.enable_x64(True):
        ends = np.clip(found, 1e-6, 1 - 1e-6)
        near = np.clip(ends[:, None] + np.linspace(-0.01, 0.01, 21), 1e-9, 1 - 1e-9)
        iou = jnp.asarray(np.repeat(IOUS[:, None], 21, axis=1))
        value = jax.jit(lambda o: positive_loss(o, iou, loss))(np.log(near / (1 - near)))
    least = np.take_along_axis(near, np.asarray(value).argmin(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(least, ends, atol=1.1e-3)


@pytest.mark.parametrize("classification", ["qfl", "vfl", "tal", "ia_bce"])
def test_a_target_of_the_iou_is_where_they_settle(classification):
    loss = LossConfig(classification=classification, association="none")
    lowest = 0.01 if classification == "ia_bce" else 0.0
    np.testing.assert_allclose(stationary_scores(IOUS, loss), np.maximum(IOUS, lowest), atol=1e-5)


def test_where_others_settle():
    mal = LossConfig(classification="mal", association="none")
    np.testing.assert_allclose(stationary_scores(IOUS, mal), IOUS**1.5, atol=1e-5)
    assert stationary_score(0.3, LossConfig(association="none")) == 1.0
    pce = stationary_scores(IOUS[3:], LossConfig(association="pce"))
    np.testing.assert_allclose(pce, IOUS[3:], atol=1e-9)  # a corner, not a root
    tc = stationary_scores(np.array([0.4, 0.6]), LossConfig(association="tc"))
    np.testing.assert_allclose(tc, [0.6, 0.8], atol=1e-9)  # the edge of its margin


def test_the_logit_losses_still_pull_where_pse_has_let_go():
    """The second flaw: at p̂ = 0.999 and an IoU of 0.5 next to nothing is left of PSE."""
    pse, logit, both = (
        landscape.pull(np.array([0.999]), 0.5, LossConfig(association=name))[0]
        for name in ("pse", "pse_logit", "pse_logit_shifted")
    )
    assert 0 < pse < 1e-3
    assert logit == pytest.approx(2 * 0.499, rel=1e-3) and both > logit


COUPLED = {"pearson", "spearman", "concordance", "iou_balanced", "best_first", "pce_best_first"}


@pytest.mark.parametrize("name", sorted(COUPLED))
def test_a_loss_that_couples_positives_has_no_surface(name):
    field = "classification" if name == "iou_balanced" else "association"
    with pytest.raises(ConfigError, match=f"config.loss.{field} is '{name}': it couples"):
        stationary_score(0.5, LossConfig(**{field: name}))


def test_every_other_loss_is_in_the_table(monkeypatch):
    assert set(FAMILY) | COUPLED == {*ASSOCIATIONS, *CLASSIFICATIONS}
    monkeypatch.setattr(landscape, "family", lambda c: {"pse": c, "mal": FAMILY["mal"]})
    pse, mal = (line.split() for line in landscape.table(LossConfig())[3:])
    assert pse[:8] == ["pse", "0.339", "0.379", "0.472", "0.590", "0.733", "0.904", "1.000"]
    assert mal[:8] == ["mal", *(f"{iou**1.5:.3f}" for iou in IOUS)]
    assert [float(v) for v in pse[8:]] == [-0.2748, 0.0097]


def test_the_table_of_the_docs_is_the_one_that_is_printed(capsys):
    """`python -m pse_jax losses --markdown` goes between the comments of docs/losses.md."""
    assert losses.main(["--markdown"]) == 0
    docs = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    between = docs.split("<!-- losses: begin -->\n")[1].split("<!-- losses: end -->")[0]
    assert between == capsys.readouterr().out


def test_the_verb_lists_every_loss(capsys, monkeypatch):
    monkeypatch.setattr(landscape, "family", lambda c: {"pse": c})
    assert losses.main(["--config.loss.beta=2"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert {row[0] for row in rows} >= {*ASSOCIATIONS, *CLASSIFICATIONS, *QUALITIES}
    assert rows[-1][1:4] == ["0.258", "0.304", "0.416"]  # of beta=2
