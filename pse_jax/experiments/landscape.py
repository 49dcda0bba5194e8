"""The loss of one positive over its score and IoU (the paper's Fig. 3), and where it settles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pse_jax.config import LossConfig
from pse_jax.errors import ConfigError
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, Scored, Tied
from pse_jax.targets import Targets

EXTREME_LOGIT = 12.0  # scores from 6e-6 to 1 - 6e-6 are searched
STEPS = 2400  # of that range, or of a part of it
ZOOMS = 4  # each divides the interval by STEPS
IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the table


def family(base: LossConfig) -> dict[str, LossConfig]:
    """Every loss that a single positive has, by its name, with the α, γ, β and k of `base`."""
    pairs = {"focal": ("focal", "none")}
    pairs |= {name: ("focal", name) for name, row in ASSOCIATIONS.items() if not row.couples}
    pairs |= {name: (name, "none") for name, row in CLASSIFICATIONS.items() if not row.couples}
    return {
        name: dataclasses.replace(base, classification=classification, association=association)
        for name, (classification, association) in pairs.items()
    }


def couples_positives(loss: LossConfig) -> bool:
    """Whether a part of it couples the positives of an object or a batch: it has no surface."""
    rows = (CLASSIFICATIONS[loss.classification], ASSOCIATIONS.get(loss.association))
    return any(row is not None and row.couples for row in rows)


def positive_loss(
    logit: Float[Array, "*n"], iou: Float[Array, "*n"], loss: LossConfig
) -> Float[Array, "*n"]:
    """Classification + association loss of one positive, elementwise, undivided; Eq. (9) for PSE.

    The positive is alone: the only one of its object ("tal" then has the IoU as its target), with
    the one class.

    Args:
        logit: of its class.
        iou: Î of its box; detached.
        loss: the configuration.

    Raises:
        ConfigError: for a loss that a single positive does not have.
    """
    classification = CLASSIFICATIONS[loss.classification]
    association = ASSOCIATIONS.get(loss.association)
    for field, row in (("association", association), ("classification", classification)):
        if row and row.couples:
            raise ConfigError(
                f"config.loss.{field} is {row.name!r}: it couples positives of a {row.couples} and "
                "is not a function of one positive's score and IoU, so it has no surface to draw"
            )
    positive, zero = jnp.ones((1, 1), bool), jnp.zeros((1, 1), jnp.int32)
    ones = jnp.ones((1, 1, 4))
    targets = Targets(positive, zero, ones, ones[..., 0], matched=zero, slots=1)

    def one(logit: Float[Array, ""], iou: Float[Array, ""]) -> Float[Array, ""]:
        logits, ious = logit.reshape(1, 1, 1), iou.reshape(1, 1)
        scored = Scored(logits, positive[..., None], ious, targets)
        value = classification.function(scored, loss).sum()
        if association:
            value += association.function(Tied(logits[..., 0], ious, positive, targets), loss).sum()
        return value

    logit, iou = jnp.broadcast_arrays(logit, iou)
    return jax.vmap(one)(logit.ravel(), iou.ravel()).reshape(logit.shape)


def pull(scores: Float[np.ndarray, " n"], iou: float, loss: LossConfig) -> Float[np.ndarray, " n"]:
    """The gradient of a positive's loss by its logit, at each score; negative where it pulls up."""

    @jax.jit
    @jax.grad
    def slope(logit: Array) -> Array:
        return positive_loss(logit, jnp.full_like(logit, iou), loss).sum()

    with jax.enable_x64(True):
        return np.asarray(slope(jnp.asarray(np.log(scores / (1 - scores)))))


def stationary_scores(ious: Float[np.ndarray, " n"], loss: LossConfig) -> Float[np.ndarray, " n"]:
    """The score at which a positive settles, for each IoU, from `jax.grad` in float64.

    It is where the gradient by the logit turns from negative to positive (a root, or a corner of
    the loss); the deepest such place if there are several; 1 or 0 where the loss still falls at
    that end.

    Raises:
        ConfigError: as `positive_loss`.
    """
    with jax.enable_x64(True):
        grid_iou = jnp.asarray(np.repeat(np.asarray(ious, np.float64)[:, None], STEPS + 1, axis=1))

        @jax.jit
        def evaluate(logit: Array) -> tuple[Array, Array]:
            slope = jax.grad(lambda o: positive_loss(o, grid_iou, loss).sum())(logit)
            return positive_loss(logit, grid_iou, loss), slope

        low, high = np.full(len(ious), -EXTREME_LOGIT), np.full(len(ious), EXTREME_LOGIT)
        ends = np.full(len(ious), np.nan)
        rows = np.arange(len(ious))
        for _ in range(ZOOMS):
            logit = np.linspace(low, high, STEPS + 1, axis=1)
            value, slope = (np.asarray(v) for v in evaluate(jnp.asarray(logit)))
            valley = (slope[:, :-1] < 0) & (slope[:, 1:] >= 0)
            ends = np.where(valley.any(axis=1), ends, np.where(slope[:, -1] < 0, 1.0, 0.0))
            deepest = np.where(valley, value[:, :-1], np.inf).argmin(axis=1)
            low, high = logit[rows, deepest], logit[rows, deepest + 1]
    return np.where(np.isnan(ends), 1 / (1 + np.exp(-(low + high) / 2)), ends)


def table(c: LossConfig) -> list[str]:
    """Lines, one per loss of `family(c)`: where a positive settles, and two gradients of its loss.

    The gradients are those of a positive scored far too low and far too high for an IoU of 0.5. At
    the second, PSE's has all but vanished (sec. III-C).
    """
    lines = [
        f"where the score of a positive settles, alpha={c.focal_alpha:g} gamma={c.focal_gamma:g} "
        f"beta={c.beta:g} k={c.k:g}; gradient by the logit:",
        " " * 27 + "IoU of the box" + " " * 23 + "IoU 0.5, score",
        f"  {'loss':<18}" + "".join(f"{iou:7.1f}" for iou in IOUS) + f"{'0.01':>10}{'0.99':>9}",
    ]
    for name, loss in family(c).items():
        settled = "".join(f"{score:7.3f}" for score in stationary_scores(np.array(IOUS), loss))
        low, high = pull(np.array([0.01, 0.99]), 0.5, loss)
        lines.append(f"  {name:<18}{settled}{low:+10.4f}{high:+9.4f}")
    return lines
