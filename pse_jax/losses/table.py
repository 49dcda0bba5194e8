"""The one table of losses: what `config.loss` and `config.model.quality` may name.

A loss is added by writing its maths and one row here. The choices of the configuration, the sweep,
the figures, the log and the table in docs/losses.md read the rows.

Dimensions: b images, p locations, c classes; `*n` any, elementwise.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pse_jax.config import LossConfig
from pse_jax.errors import ConfigError
from pse_jax.losses.association import pce_logit_loss, pse_loss
from pse_jax.losses.classification import (
    iou_aware_loss,
    iou_balanced_weights,
    matchability_aware_loss,
    quality_focal_loss,
    task_aligned_loss,
    varifocal_loss,
)
from pse_jax.losses.consistency import tc_loss
from pse_jax.losses.corrected import pse_logit_loss, pse_logit_shifted_loss, pse_shifted_loss
from pse_jax.losses.correlation import concordance_loss, pearson_loss, spearman_loss
from pse_jax.losses.focal import sigmoid_focal_loss
from pse_jax.losses.within import best_first_loss
from pse_jax.targets import Targets, centerness


@dataclasses.dataclass(frozen=True)
class Tied:
    """What an association loss is a function of: scores and IoUs, of which `positive` count."""

    logit: Float[Array, "*n"]  # of the score that is tied to the IoU
    iou: Float[Array, "*n"]  # Î; every loss detaches it
    positive: Bool[Array, "*n"]
    targets: Targets  # which object each location answers for

    @property
    def score(self) -> Float[Array, "*n"]:
        """p̂, a probability."""
        return jax.nn.sigmoid(self.logit)


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a classification loss is a function of: the scores of all classes at all locations."""

    logits: Float[Array, "b p c"]
    one_hot: Bool[Array, "b p c"]  # the class of every positive of a valid image; else nothing
    iou: Float[Array, "b p"]  # Î of the predicted boxes at positives; every loss detaches it
    targets: Targets  # which object each location answers for

    @property
    def quality(self) -> Float[Array, "b p c"]:
        """q: Î for the class of a positive, 0 everywhere else."""
        return jnp.where(self.one_hot, self.iou[..., None], 0.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss: its names, its function, what it depends on, and its row in docs/losses.md."""

    name: str  # in the configuration
    label: str  # in figures and in the log
    formula: str
    target: str  # where it draws the score of a positive
    source: str
    function: Callable[..., Array]
    # What it couples: "" for each location alone, or all positives of an "object" or the "batch".
    couples: Literal["", "object", "batch"] = ""
    constants: tuple[str, ...] = ()  # fields of LossConfig, for the log
    # The classification losses that an association goes with: any, those of "target 1", or focal.
    partners: Literal["any", "target 1", "focal"] = "target 1"


def _by_name(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


def _focal(at: Scored, c: LossConfig) -> Float[Array, "b p c"]:
    targets = at.one_hot.astype(at.logits.dtype)
    return sigmoid_focal_loss(at.logits, targets, alpha=c.focal_alpha, gamma=c.focal_gamma)


def _iou_balanced(at: Scored, c: LossConfig) -> Float[Array, "b p c"]:
    focal = _focal(at, c)
    quality = jnp.broadcast_to(at.iou[..., None], focal.shape)
    return focal * iou_balanced_weights(focal, quality, at.one_hot)


LINE, FOCAL = ("beta", "k"), ("focal_alpha", "focal_gamma")

# fmt: off
# config.loss.association: added at the positives; functions of (Tied, LossConfig) to [*n] or, if
# it couples the batch, to one number that is a mean already.
ASSOCIATIONS = _by_name(
    Row("pse", "PSE", "β (p̂ − kÎ)²", target="kÎ", source="the paper, Eq. (8)", constants=LINE,
        function=lambda at, c: pse_loss(at.score, at.iou, beta=c.beta, k=c.k)),
    Row("pce", "PCE", "−β log(1 − |p̂ − kÎ|), kÎ cut to [0, 1]",
        target="kÎ", source="the paper, III-A", constants=LINE,
        function=lambda at, c: pce_logit_loss(at.logit, at.iou, beta=c.beta, k=c.k)),
    Row("tc", "TC", "β max(0, |p̂ − kÎ| − 0.2) / (1 + e^H), H the entropy of p̂",
        target="within 0.2 of kÎ", source="Wang and Zhang, ICCV 2021", constants=LINE,
        function=lambda at, c: tc_loss(at.score, at.iou, beta=c.beta, k=c.k)),
    Row("pearson", "Pearson", "β (1 − PCC(p̂, Î))",
        target="any rising line", source="the paper, III-C; CorrLoss, AAAI 2023",
        constants=("beta",), couples="batch", partners="any",
        function=lambda at, c: pearson_loss(at.score, at.iou, at.positive, beta=c.beta)),
    Row("spearman", "Spearman", "β (1 − PCC of soft ranks)",
        target="the order of Î", source="CorrLoss",
        constants=("beta",), couples="batch", partners="any",
        function=lambda at, c: spearman_loss(at.score, at.iou, at.positive, beta=c.beta)),
    Row("concordance", "Concordance", "β (1 − CCC(p̂, kÎ))",
        target="kÎ", source="Lin 1989; CorrLoss", constants=LINE, couples="batch", partners="any",
        function=lambda at, c: concordance_loss(at.score, at.iou, at.positive, beta=c.beta, k=c.k)),
    Row("pse_shifted", "PSE shifted", "β (p̂ − s)² + h(s) (p̂ − s), s = kÎ cut to [0.05, 1)",
        target="kÎ, focal included", source="this project", constants=LINE, partners="focal",
        function=lambda at, c: pse_shifted_loss(
            at.score, at.iou, beta=c.beta, k=c.k, alpha=c.focal_alpha, gamma=c.focal_gamma)),
    Row("pse_logit", "PSE logit", "2β KL(s ‖ p̂), s = kÎ cut to [0, 1]",
        target="kÎ", source="this project", constants=LINE,
        function=lambda at, c: pse_logit_loss(at.logit, at.iou, beta=c.beta, k=c.k)),
    Row("pse_logit_shifted", "PSE logit shifted",
        "2β KL(s ‖ p̂) + c(s) (o − logit s), s as in pse_shifted",
        target="kÎ, focal included", source="this project", constants=LINE, partners="focal",
        function=lambda at, c: pse_logit_shifted_loss(
            at.logit, at.iou, beta=c.beta, k=c.k, alpha=c.focal_alpha, gamma=c.focal_gamma)),
    Row("best_first", "best first", "β (Î* − Î) log(1 + e^(o − o*)), * the object's best-placed",
        target="the order of Î", source="this project", constants=("beta",), couples="object",
        partners="any", function=lambda at, c: best_first_loss(
            at.logit, at.iou, at.positive, at.targets, beta=c.beta)),
    Row("pce_best_first", "PCE, best first", "the sum of PCE and best first",
        target="kÎ, in the order of Î", source="this project", constants=LINE, couples="object",
        function=lambda at, c: pce_logit_loss(at.logit, at.iou, beta=c.beta, k=c.k)
        + best_first_loss(at.logit, at.iou, at.positive, at.targets, beta=c.beta)),
)

# config.loss.classification: over all locations and classes; functions of (Scored, LossConfig) to
# [b, p, c].
CLASSIFICATIONS = _by_name(
    Row("focal", "focal", "−α (1−p̂)^γ log p̂; −(1−α) p̂^γ log(1−p̂)",
        target="1", source="the paper, Eq. (4)", function=_focal, constants=FOCAL),
    Row("iou_balanced", "IoU-balanced focal", "focal loss L of positives · q^1.5 ΣL / Σ q^1.5 L",
        target="1", source="Wu et al., 1908.05641", function=_iou_balanced, constants=FOCAL,
        couples="batch"),
    Row("qfl", "QFL", "|q − p̂|² BCE(p̂, q)", target="Î", source="Li et al., NeurIPS 2020",
        function=lambda at, c: quality_focal_loss(at.logits, at.quality)),
    Row("vfl", "VFL", "q BCE(p̂, q) where q > 0; 0.75 p̂² BCE(p̂, 0) where q = 0",
        target="Î", source="Zhang et al., CVPR 2021",
        function=lambda at, c: varifocal_loss(at.logits, at.quality)),
    Row("tal", "TAL", "|t̂ − p̂|² BCE(p̂, t̂), t̂ = t / max t · max Î, t = p̂ Î⁶",
        target="t̂", source="Feng et al., ICCV 2021",
        function=lambda at, c: task_aligned_loss(at.logits, at.one_hot, at.iou, at.targets)),
    Row("mal", "MAL", "BCE(p̂, q^1.5) at positives; p̂^1.5 BCE(p̂, 0) else",
        target="Î^1.5", source="Huang et al., CVPR 2025",
        function=lambda at, c: matchability_aware_loss(at.logits, at.quality, at.one_hot)),
    Row("ia_bce", "IA-BCE", "BCE(p̂, t), t = p̂^0.25 q^0.75, at positives; p̂² BCE(p̂, 0) else",
        target="Î", source="Cai et al., Align-DETR, 2023",
        function=lambda at, c: iou_aware_loss(at.logits, at.quality, at.one_hot)),
)

# config.model.quality: a third output, trained by cross-entropy; functions of the distances
# [*n, 4] to the edges of the true box and the IoU [*n] to the targets [*n].
QUALITIES = _by_name(
    Row("centerness", "centre-ness", "BCE(p̂, c), c = √(min(l, r)/max(l, r) · min(t, b)/max(t, b))",
        target="c", source="FCOS, Eq. (3)", function=lambda distances, iou: centerness(distances)),
    Row("iou", "IoU", "BCE(p̂, Î)", target="Î", source="improved FCOS",
        function=lambda distances, iou: jax.lax.stop_gradient(iou)),
)
# fmt: on


def partners(association: Row) -> list[str]:
    """The classification losses that an association may stand beside."""
    if association.partners == "focal":
        return ["focal"]
    rows = CLASSIFICATIONS.values()
    return [row.name for row in rows if association.partners == "any" or row.target == "1"]


def check_pair(loss: LossConfig) -> None:
    """Raises ConfigError for an association that contradicts the classification loss."""
    row = ASSOCIATIONS.get(loss.association)
    if row is None or loss.classification in partners(row):
        return
    why = "it would be a second target for the score, beside the IoU of the classification loss"
    if row.partners == "focal":
        why = "it is derived from the focal loss and settles on the line beside that alone"
    others = ", ".join(name for name, row in ASSOCIATIONS.items() if row.partners == "any")
    raise ConfigError(
        f"config.loss.association={row.name!r} does not go with config.loss.classification="
        f"{loss.classification!r}: {why}. Set config.loss.association=none (or {others}), or "
        "config.loss.classification=focal"
    )


def check_parts(loss: LossConfig, parts: int) -> None:
    """Raises ConfigError for a loss that is no sum over images, if a batch is computed in parts."""
    for path, rows in (("classification", CLASSIFICATIONS), ("association", ASSOCIATIONS)):
        row = rows.get(getattr(loss, path))
        if parts > 1 and row is not None and row.couples == "batch":
            raise ConfigError(
                f"config.train.accumulate={parts} does not go with config.loss.{path}="
                f"{row.name!r}: it is computed from all positives of a batch at once, and a sum "
                "over parts would be another loss. Set config.train.accumulate=1, use more devices "
                "or config.model.remat=true for memory, or choose another loss"
            )
