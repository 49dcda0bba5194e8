"""A detector under the names of the official FCOS repository, for PyTorch."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from jaxtyping import Float

from pse_jax.config import to_dict
from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.files import make_folder, write_whole
from pse_jax.weights.fit import path_of
from pse_jax.weights.names import OFFICIAL, detector_layers
from pse_jax.weights.published import METADATA


def save(detector: Detector, file: Path) -> list[str]:
    """Writes a .safetensors file; returns lines about it.

    Raises:
        UserError: if its name has another ending, or it cannot be written.
    """
    if file.suffix != ".safetensors":
        raise UserError(f"{file} must end in .safetensors, the format that is written")
    arrays, header = to_official(detector), metadata(detector)
    make_folder(file.parent, "the folder of the weights")
    write_whole(file, safetensors.numpy.save(arrays, header), "the weights")
    size = file.stat().st_size / 1e6
    written = f"wrote {file}: {len(arrays)} tensors of step {detector.step}, {size:.1f} MB"
    return [written, f"  {header['variant']}", f"  {header['pixels']}"]


def to_official(detector: Detector) -> dict[str, Float[np.ndarray, "..."]]:
    """Arrays by official name, as PyTorch lays them out; `translate` reads the same bits back.

    Frozen batch normalisations are the folded affine, with mean 0 and variance 1, as official
    files have them. A GroupNorm in the backbone has no statistics. Towers without biases get
    zeros, because the official modules have biases.
    """
    variables = jax.tree_util.tree_leaves_with_path(jax.device_get(detector.variables))
    ours = {path_of(keys): np.asarray(value) for keys, value in variables}
    arrays = {}
    for layer in detector_layers(
        OFFICIAL, dataclasses.replace(detector.config.model, tower_bias=True)
    ):
        first, bias = layer.paths
        value = ours[first]
        if "conv" in layer.kind:
            value = np.ascontiguousarray(value.transpose(3, 2, 0, 1))
        zeros = np.zeros(len(value), np.float32)
        values = (value, ours.get(bias, zeros), zeros, np.ones_like(zeros))
        arrays |= zip(layer.in_file, values, strict=False)
    for i, scale in enumerate(ours["params/head/scales"]):
        arrays[OFFICIAL.scales.format(i=i)] = scale.reshape(1)
    return arrays


def metadata(detector: Detector) -> dict[str, str]:
    """What goes into the file's header: for people, the variant; for `translate`, everything."""
    model = detector.config.model
    content = {
        "format": "fcos-improved" if model.distances == "relu" else "fcos",
        "config": to_dict(detector.config),
        "category_ids": list(detector.categories.ids),
        "category_names": list(detector.categories.names),
    }
    quality = "none" if model.quality == "none" else f"{model.quality} on {model.quality_tower}"
    return {
        "format": "pt",  # as torch's own files say
        "variant": f"distances {model.distances}, quality {quality}, stride in "
        f"{'1x1' if model.stride_in_1x1 else '3x3'}, norm {model.norm}, grid {model.grid}",
        "pixels": f"{model.channel_order} 0..255, mean {model.pixel_mean}, std {model.pixel_std}",
        METADATA: json.dumps(content),
    }
