"""A detector as a StableHLO program with its weights beside it, by jax.export.

The weights are an argument and not constants inside: so the compiler does not fold them, once for
each canvas, and a program keeps them on its device or exchanges them.
"""

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import program
from pse_jax.export.artefact import Artefact, Tensor, outputs
from pse_jax.weights.fit import path_of

PLATFORMS = ("cpu", "cuda", "tpu")


def make(detector: Detector) -> Artefact:
    """The program, model.stablehlo, and its weights, weights.npz.

    Raises:
        UserError: if a category id does not fit in 32 bits.
    """
    ids = detector.categories.ids
    if max(map(abs, ids)) > np.iinfo(np.int32).max:
        raise UserError(f"the category ids {min(ids)}..{max(ids)} do not fit in 32 bits")
    leaves, structure = jax.tree_util.tree_flatten_with_path(jax.device_get(detector.variables))
    weights = {path_of(keys): np.asarray(value) for keys, value in leaves}
    names = list(weights)  # a dictionary's leaves are in the order of its sorted names
    config = program.settled(detector.config)

    def detect(weights: dict[str, Array], images: Array, sizes: Array) -> dict[str, Array]:
        variables = jax.tree.unflatten(structure, [weights[name] for name in names])
        return program.run(config, ids, variables, images, sizes)

    b, h, w = export.symbolic_shape("b, h, w")
    exported = export.export(jax.jit(detect), platforms=PLATFORMS)(
        {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()},
        jax.ShapeDtypeStruct((b, h, w, 3), jnp.uint8),
        jax.ShapeDtypeStruct((b, 2), jnp.int32),
    )
    stream = io.BytesIO()
    np.savez(stream, **weights)
    return Artefact(
        format="stablehlo",
        files={"model.stablehlo": bytes(exported.serialize()), "weights.npz": stream.getvalue()},
        inputs=(),
        outputs=outputs(config.inference.max_detections),
        limits={},
        notes=(),
        example="",
    )
