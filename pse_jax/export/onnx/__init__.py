"""A detector as an ONNX file, written layer by layer with the `onnx` package."""

from pathlib import Path

from pse_jax.detector import Detector
from pse_jax.export.onnx.model import FILE, build, count_nodes, make
from pse_jax.files import make_folder, write_whole

__all__ = ["FILE", "build", "count_nodes", "make", "write"]


def write(detector: Detector, folder: Path) -> Path:
    """Writes model.onnx alone into a folder, which is made, and returns its path.

    Raises:
        UserError: if a category id does not fit in 32 bits.
        WriteError: if it cannot be written.
    """
    content = build(detector).SerializeToString()
    make_folder(folder, "the folder of the exported model")
    write_whole(folder / FILE, content, "the ONNX model")
    return folder / FILE
