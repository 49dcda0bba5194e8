"""Every loss, one family per file. The maths knows nothing of files, flags or devices."""

from pse_jax.losses.association import pce_loss, pse_loss
from pse_jax.losses.focal import sigmoid_focal_loss
from pse_jax.losses.iou import iou_loss

__all__ = ["iou_loss", "pce_loss", "pse_loss", "sigmoid_focal_loss"]
