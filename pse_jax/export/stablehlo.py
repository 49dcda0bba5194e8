"""A detector as a StableHLO program with its weights beside it, by jax.export.

The weights are an argument and not constants inside: so the compiler does not fold them, once for
each canvas, and a program keeps them on its device or exchanges them.
"""

import datetime
import importlib.metadata
import io
from calendar import monthrange

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from pse_jax.detector import Detector
from pse_jax.errors import UserError
from pse_jax.export import program
from pse_jax.export.artefact import Artefact, Tensor, outputs
from pse_jax.export.resize import LARGEST
from pse_jax.weights.fit import path_of

PLATFORMS = ("cpu", "cuda", "tpu")
POLICY = "https://docs.jax.dev/en/latest/501/export.html#compatibility-guarantees"
INPUTS = (
    Tensor("weights", "float32", ("...",), "the content of weights.npz: a dictionary, by name"),
    Tensor("images", "uint8", ("b", "h", "w", 3), "RGB; smaller ones in the top left corner, with "
           "anything below and on the right"),
    Tensor("sizes", "int32", ("b", 2), "height and width of each image in px"),
)  # fmt: skip
EXAMPLE = """
import jax, jax.export, numpy as np  # and flatbuffers

weights = jax.device_put(dict(np.load("weights.npz")))
program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
detect = jax.jit(program.call)
image = ...  # uint8 RGB [height, width, 3]
found = detect(weights, image[None], np.array([image.shape[:2]], np.int32))
for i in range(int(found["count"][0])):
    print(found["category_ids"][0, i], found["scores"][0, i], found["boxes_xyxy"][0, i])
"""


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
        return program.run(config, ids, detector.canvases_hw, variables, images, sizes)

    b, h, w = export.symbolic_shape("b, h, w")
    exported = export.export(jax.jit(detect), platforms=PLATFORMS)(
        {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()},
        jax.ShapeDtypeStruct((b, h, w, 3), jnp.uint8),
        jax.ShapeDtypeStruct((b, 2), jnp.int32),
    )
    stream = io.BytesIO()
    np.savez(stream, **weights)  # pyright: ignore[reportArgumentType]
    files = {"model.stablehlo": bytes(exported.serialize()), "weights.npz": stream.getvalue()}
    return describe(detector, files)


def describe(detector: Detector, files: dict[str, bytes]) -> Artefact:
    """What people and programs need to know to use the files."""
    config = program.settled(detector.config)
    data = config.data
    choices = program.canvases(data.short_side, data.long_side, data.resize, detector.canvases_hw)
    until = in_half_a_year(datetime.date.today())
    version = importlib.metadata.version("jaxlib")
    return Artefact(
        format="stablehlo",
        files=files,
        inputs=INPUTS,
        outputs=outputs(config.inference.max_detections),
        limits={
            "platforms": list(PLATFORMS),
            "largest_side_px": LARGEST,
            "longest_to_shortest_side": program.MOST_ELONGATED,
            "canvases_hw": [list(canvas) for canvas in choices],
        },
        notes=(
            f"It runs on {', '.join(PLATFORMS)}, computes in {config.model.dtype}, and takes any "
            "number of images. Each new shape of `images` is compiled: pad to one size.",
            f"An image has 1 to {LARGEST} px a side, and is at most {program.MOST_ELONGATED} times "
            "as long as wide; others get `count` -1.",
            "The pixels of an image are resized to the same bits as pse_jax's Python API does "
            "without OpenCV; with the extra `fast`, which resizes with OpenCV, those of an image "
            "that is enlarged differ by at most one level.",
            f"It was written by jaxlib {version}, which will always read it. JAX promises that "
            f"releases up to six months newer read it too: until {until} if that version was the "
            f"newest when this was written, and less long if not ({POLICY}). For a later JAX, make "
            "it again with the command below.",
            "Read no such file from a source that you do not trust: it is a program.",
        ),
        example=EXAMPLE,
        readable_until=until.isoformat(),
    )


def in_half_a_year(day: datetime.date) -> datetime.date:
    """The same day six months on, or the last of that month."""
    year, month = day.year + (day.month > 6), (day.month + 5) % 12 + 1
    return day.replace(year=year, month=month, day=min(day.day, monthrange(year, month)[1]))
