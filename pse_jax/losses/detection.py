"""The training objective: Eq. (6) plus Eq. (12), over all locations of all images of a batch.

Dimensions: b images, p locations, c classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from pse_jax import boxes
from pse_jax.config import Config, LossConfig
from pse_jax.losses.iou import giou_loss, iou_loss
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES, Row, Scored, Tied
from pse_jax.models.head import Predictions
from pse_jax.targets import Targets, centerness

BOX_LABELS = {"iou": "IoU", "giou": "GIoU"}
SMALLEST_WEIGHT = 1e-6  # under the sum of the centre-ness weights, as in AdelaiDet


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Losses:
    """The terms, each already divided by the number of positives, and that number."""

    classification: Float[Array, ""]  # Eq. (5), or the loss that replaces the focal term
    box: Float[Array, ""]  # Eq. (6)
    association: Float[Array, ""]  # second sum of Eq. (12); 0 when switched off
    quality: Float[Array, ""]  # of a centre-ness or IoU branch; 0 without one, as in the paper
    positives: Float[Array, ""]  # Npos of the global batch, before it is raised to 1

    @property
    def total(self) -> Float[Array, ""]:
        """What is minimised."""
        return self.classification + self.box + self.association + self.quality


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Divisors:
    """What the sums over a batch are divided by; known before the network has said anything."""

    positives: Float[Array, ""]  # Npos, at least 1
    box: Float[Array, ""]  # the same, or the sum of centre-ness weights, of the box loss


def divisors(targets: Targets, image_valid: Bool[Array, " b"], config: Config) -> Divisors:
    """The divisors of a batch; a batch that is computed in parts has one pair for all of them."""
    positive = targets.positive & image_valid[:, None]
    count = jnp.maximum(positive.sum(dtype=jnp.float32), 1.0)
    if not config.loss.box_by_centerness:
        return Divisors(count, count)
    # FCOS (fcos_core, loss.py): a weighted mean
    wanted = _in_units(targets.distances, targets, positive, config)
    weight = jnp.where(positive, centerness(wanted), 0.0)
    return Divisors(count, jnp.maximum(weight.sum(), SMALLEST_WEIGHT))


def detection_losses(
    predictions: Predictions,
    targets: Targets,
    image_valid: Bool[Array, " b"],
    config: Config,
    over: Divisors | None = None,
) -> Losses:
    """Focal, IoU and association loss of a batch, all over max(Npos, 1).

    Other rows of losses/table.py take the place of the focal loss or of PSE, and nothing else
    changes. An association by correlation is one number per batch, a mean already: not divided.

    Under `jit` with a sharded batch the sums are over the global batch, so the losses do not depend
    on the number of devices. Images that are not valid (padding of a batch) contribute nothing.

    Args:
        predictions: of the network.
        targets: what they should be.
        image_valid: which images count.
        config: which losses.
        over: the divisors of the whole batch, of which these images are a part: then the losses of
            the parts add up to those of the batch.
    """
    loss = config.loss
    logits, positive = predictions.class_logits, targets.positive & image_valid[:, None]
    over = divisors(targets, image_valid, config) if over is None else over

    classes = jnp.arange(logits.shape[-1])
    one_hot = (targets.label[..., None] == classes) & positive[..., None]  # [b, p, c]

    # Away from positives, both boxes are the unit box: no infinities for the mask to hide.
    distances = _in_units(predictions.distances, targets, positive, config)
    wanted = _in_units(targets.distances, targets, positive, config)
    if loss.box == "iou":
        box = iou_loss(boxes.distance_iou(distances, wanted, smooth=loss.iou_smooth))
    else:
        box = giou_loss(boxes.distance_giou(distances, wanted, smooth=loss.iou_smooth))
    # Î, what scores learn: Eq. (7) unless told otherwise, 0 for a box without area.
    iou = boxes.distance_iou(distances, wanted, smooth=loss.target_smooth)

    def total(values: Float[Array, "*n"], mask: Bool[Array, "*n"]) -> Float[Array, ""]:
        return jnp.where(mask, values, 0.0).sum()

    if loss.box_by_centerness:
        box = box * centerness(wanted)

    scored = Scored(logits, one_hot, iou, targets)
    classification = CLASSIFICATIONS[loss.classification].function(scored, loss)
    everywhere = jnp.broadcast_to(image_valid[:, None, None], classification.shape)

    association = jnp.zeros(())
    if loss.association != "none":
        if loss.score == "max":  # sec. II: P̂ is the maximum over classes
            logit = logits.max(axis=-1)
        else:  # Eq. (8) read for one class: the positive's own
            logit = jnp.where(one_hot, logits, 0.0).sum(axis=-1)
        row = ASSOCIATIONS[loss.association]
        association = row.function(Tied(logit, iou, positive, targets), loss)
        if row.couples != "batch":
            association = total(association, positive) / over.positives

    quality = jnp.zeros(())
    if predictions.quality_logits is not None:
        target = QUALITIES[config.model.quality].function(wanted, iou)
        entropy = optax.sigmoid_binary_cross_entropy(predictions.quality_logits, target)
        quality = total(entropy, positive) / over.positives

    return Losses(
        classification=total(classification, everywhere) / over.positives,
        box=loss.box_weight * total(box, positive) / over.box,
        association=association,
        quality=quality,
        positives=positive.sum(dtype=jnp.float32),
    )


def _in_units(
    distances: Float[Array, "b p 4"],
    targets: Targets,
    positive: Bool[Array, "b p"],
    config: Config,
) -> Float[Array, "b p 4"]:
    """Distances in the unit of the box loss, px or strides; 1 away from positives."""
    unit = targets.stride[..., None] if config.model.distances == "relu" else 1.0
    return jnp.where(positive[..., None], distances / unit, 1.0)


def describe_loss(loss: LossConfig, quality: str = "none") -> str:
    """Which terms are on, with their constants; `quality` is the model's third output."""

    def described(row: Row, *more: str) -> str:
        shown = [f"{n.removeprefix('focal_')}={getattr(loss, n):g}" for n in row.constants]
        return f"{row.label}({', '.join([*shown, *more])})" if shown or more else row.label

    terms = [described(CLASSIFICATIONS[loss.classification])]
    terms += [f"{loss.box_weight:g}*{BOX_LABELS[loss.box]}(smooth={loss.iou_smooth:g})"]
    terms += [f"BCE({QUALITIES[quality].label})"] if quality != "none" else []
    note = f"; IoU that scores are drawn to: smooth={s:g}" if (s := loss.target_smooth) else ""
    if loss.association == "none":
        return " + ".join(terms) + "; no association loss" + note
    terms += [described(ASSOCIATIONS[loss.association], f"score={loss.score}")]
    return " + ".join(terms) + note
