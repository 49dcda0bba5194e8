"""Numbers from arrays: COCO's metrics, matching, correlations, oracles, calibration, errors.

Imports NumPy, SciPy and pycocotools, and nothing that imports JAX. docs/analyze.md shows the names
below at work.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pse_jax.evaluation.coco import evaluate_coco as evaluate_coco
    from pse_jax.evaluation.comparison import compare as compare
    from pse_jax.evaluation.confusion import confusion_matrix as confusion_matrix
    from pse_jax.evaluation.curves import precision_recall as precision_recall
    from pse_jax.evaluation.measure import examine as examine
    from pse_jax.evaluation.summary import summarise as summarise
    from pse_jax.evaluation.suspicion import suspect as suspect

_HOMES = {
    "evaluate_coco": "coco",
    "compare": "comparison",
    "confusion_matrix": "confusion",
    "precision_recall": "curves",
    "examine": "measure",
    "summarise": "summary",
    "suspect": "suspicion",
}
__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are first used: they bring SciPy with them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
