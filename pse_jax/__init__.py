"""FCOS with association losses for visual object detection, in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pse_jax.detections import Detections
    from pse_jax.detector import Detector
    from pse_jax.runs.load import load

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "load"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: they bring JAX with them."""
    if name == "load":
        from pse_jax.runs.load import load

        return load
    if name in ("Detections", "Detector"):
        from pse_jax import detector

        return getattr(detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
