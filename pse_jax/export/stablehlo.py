"""A detector as a StableHLO program, by jax.export."""

from pse_jax.detector import Detector
from pse_jax.export.artefact import Artefact


def make(detector: Detector) -> Artefact:
    """The program and its weights."""
    raise NotImplementedError
