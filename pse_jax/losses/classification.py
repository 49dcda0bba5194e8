"""Losses that replace the focal term: the IoU is part of the classification target or its weight.

Dimensions: `*b` images, p locations, c classes. The target of class c at a location is q, the IoU
of the predicted box, if the location is a positive of class c, and 0 else. Every q is detached.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from pse_jax.targets import Targets

Values = Float[Array, "*n"]  # elementwise, of any shape
Mask = Bool[Array, "*n"]

SMALLEST_SUM = 1e-30  # under a quotient whose numerator is 0 too


def quality_focal_loss(logits: Values, quality: Values, *, beta: float = 2.0) -> Values:
    """QFL, elementwise: |q - p̂|^β BCE(p̂, q), for positives and negatives (q = 0) alike.

    Li et al., "Generalized Focal Loss", NeurIPS 2020. The gradient runs through both factors.
    """
    quality = jax.lax.stop_gradient(quality)
    distance = jnp.abs(quality - jax.nn.sigmoid(logits))
    return distance**beta * optax.sigmoid_binary_cross_entropy(logits, quality)


def varifocal_loss(
    logits: Values, quality: Values, *, alpha: float = 0.75, gamma: float = 2.0
) -> Values:
    """VFL, elementwise: q BCE(p̂, q) where q > 0, α p̂^γ BCE(p̂, 0) where q = 0.

    Zhang et al., "VarifocalNet", CVPR 2021. The gradient runs through p̂^γ.
    """
    quality = jax.lax.stop_gradient(quality)
    weight = jnp.where(quality > 0, quality, alpha * jax.nn.sigmoid(logits) ** gamma)
    return weight * optax.sigmoid_binary_cross_entropy(logits, quality)


def matchability_aware_loss(
    logits: Values, quality: Values, positive: Mask, *, gamma: float = 1.5
) -> Values:
    """MAL, elementwise: BCE(p̂, q^γ) for positives, p̂^γ BCE(p̂, 0) for the rest.

    Huang et al., "DEIM", CVPR 2025. The weight p̂^γ is detached.
    """
    quality = jax.lax.stop_gradient(quality)
    weight = jax.lax.stop_gradient(jax.nn.sigmoid(logits)) ** gamma
    loss = optax.sigmoid_binary_cross_entropy(logits, quality**gamma)
    return jnp.where(positive, 1.0, weight) * loss


def iou_aware_loss(logits: Values, quality: Values, positive: Mask) -> Values:
    """IA-BCE, elementwise: BCE(p̂, t) for positives, p̂² BCE(p̂, 0) for the rest.

    t is p̂^0.25 q^0.75, at least 0.01, and detached; the gradient runs through p̂². Cai et al.,
    "Align-DETR", 2023, as RF-DETR trains with it.
    """
    quality = jax.lax.stop_gradient(quality)
    score = jax.nn.sigmoid(logits)
    target = jnp.maximum(jax.lax.stop_gradient(score) ** 0.25 * quality**0.75, 0.01)
    target = jnp.where(positive, target, 0.0)
    weight = jnp.where(positive, 1.0, jnp.square(score))
    return weight * optax.sigmoid_binary_cross_entropy(logits, target)


def task_aligned_target(
    score: Float[Array, "*b p"],
    iou: Float[Array, "*b p"],
    positive: Bool[Array, "*b p"],
    matched: Int[Array, "*b p"],
    slots: int,
) -> Float[Array, "*b p"]:
    """TOOD's t̂ = t / max t · max u, with t = s^1 u^6 and both maxima over the object's positives.

    Feng et al., "TOOD", ICCV 2021; the best-aligned location of an object thereby gets the object's
    best IoU as its target. The locations are those that the assignment calls positive here, where
    TOOD takes the 13 best by t. All of it is detached.

    Args:
        score: s, the score of the positive's own class.
        iou: u.
        positive: which locations answer for an object.
        matched: for which: an index in 0..slots-1.
        slots: room for objects per image.

    Returns:
        Targets in [0, 1]; 0 away from positives.
    """
    score, iou = jax.lax.stop_gradient((score, iou))
    member = (matched[..., None] == jnp.arange(slots)) & positive[..., None]  # [*b, p, slots]

    def best(values: Float[Array, "*b p"]) -> Float[Array, "*b p"]:
        of_object = jnp.where(member, values[..., None], 0.0).max(axis=-2, keepdims=True)
        return jnp.where(member, of_object, 0.0).max(axis=-1)

    aligned = score * iou**6.0  # TOOD's α = 1 and β = 6
    share = aligned / jnp.maximum(best(aligned), SMALLEST_SUM)
    return jnp.where(positive, share * best(iou), 0.0)


def task_aligned_loss(
    logits: Float[Array, "*b p c"],
    one_hot: Bool[Array, "*b p c"],
    iou: Float[Array, "*b p"],
    targets: Targets,
) -> Float[Array, "*b p c"]:
    """TAL: QFL with `task_aligned_target` as the target."""
    if targets.matched is None:
        raise ValueError("task alignment needs to know the object of each location")
    score = jax.nn.sigmoid(jnp.where(one_hot, logits, 0.0).sum(axis=-1))
    target = task_aligned_target(score, iou, one_hot.any(-1), targets.matched, targets.slots)
    return quality_focal_loss(logits, jnp.where(one_hot, target[..., None], 0.0))


def iou_balanced_weights(
    losses: Values, quality: Values, positive: Mask, *, eta: float = 1.5
) -> Values:
    """Weights that move the loss of positives to those with better boxes and keep its sum.

    Wu et al., "IoU-balanced Loss Functions", 2019: w_i = q_i^η Σ_j L_j / Σ_j q_j^η L_j over the
    positives of the global batch, 1 elsewhere and where all q are 0; detached. The source takes
    the cross-entropy for L; here it is the classification loss that the weights are for.
    """
    losses, quality = jax.lax.stop_gradient((losses, quality))
    powers = quality**eta
    plain = jnp.where(positive, losses, 0.0).sum()
    weighted = jnp.where(positive, losses * powers, 0.0).sum()
    shared = powers * plain / jnp.maximum(weighted, SMALLEST_SUM)
    return jnp.where(positive & (weighted > 0), shared, 1.0)
