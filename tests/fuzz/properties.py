"""Generated inputs by hypothesis for what the fuzzers do not reach: nothing but a UserError.

    python -m tests.fuzz.properties --seconds 600

tests/fuzz/test_fuzz.py runs a few of each.
"""

import argparse
import io
import json
import struct
import time
import warnings

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from pse_jax.config import Config, from_dict, leaves, to_dict
from pse_jax.config_checks import validate
from pse_jax.data import coco, transforms
from pse_jax.errors import UserError
from pse_jax.evaluation.arrays import GroundTruth
from pse_jax.weights.read import read
from tests.fuzz.harness import scratch
from tests.fuzz.json_readers import ANNOTATIONS, DETECTIONS, TRUTH

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, -1, True, 2**24, 2**24 + 1, 2**63, -(2**63), 10**400, 1e9, 1e18, 1e30]),
)
LEAVES = st.one_of(NUMBERS, st.none(), st.text(), st.text(st.characters(), max_size=3))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def changed(draw, content, values):
    """A copy in which up to three values anywhere are other ones, or gone."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(0, 3))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or draw(st.integers(0, 3)) == 0:
                if draw(st.integers(0, 5)):
                    node[key] = draw(values)
                else:
                    del node[key]
                break
            node = node[key]
    return content


def rows(data):
    """Parsed annotations and detections; of what is taken, arrays have their types and bounds."""
    try:
        truth = coco.load_ground_truth(changed(data.draw, ANNOTATIONS, VALUES))
        assert isinstance(truth, GroundTruth) and np.isfinite(truth.boxes_xywh).all()
        assert (truth.area >= 0).all() and truth.image_ids.dtype == np.int64
        assert all(isinstance(name, str) for name in truth.image_names)
    except UserError as error:
        str(error).encode()
    try:
        found = coco.load_results(changed(data.draw, DETECTIONS, VALUES), TRUTH)
        assert np.isfinite(found.scores).all() and (found.boxes_xywh[:, 2:] >= 0).all()
    except UserError as error:
        str(error).encode()


def _seeds():
    photo = Image.fromarray(np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    for form in (
        "JPEG",
        "PNG",
        "GIF",
        "WEBP",
        "TIFF",
        "BMP",
        "PPM",
        "TGA",
        "ICO",
        "JPEG2000",
        "PCX",
    ):
        try:
            stream = io.BytesIO()
            photo.save(stream, form, exif=exif)
        except Exception:  # not in this build of Pillow
            continue
        yield stream.getvalue()


IMAGES = list(_seeds())


def images(data):
    """Files with bytes changed, cut or repeated; what is decoded has the annotated size."""
    content = bytearray(data.draw(st.sampled_from(IMAGES)))
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            # Most of what a decoder can trip over is in the first bytes.
            at = data.draw(
                st.integers(0, len(content) - 1) | st.integers(0, min(60, len(content) - 1))
            )
            content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    size_hw = data.draw(st.sampled_from([(8, 10), (10, 8)]))
    exif = data.draw(st.sampled_from(["apply", "ignore"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = transforms.decode(bytes(content), "x", size_hw, exif)
            assert pixels.shape == (*size_hw, 3) and pixels.dtype == np.uint8
        except UserError:
            pass


WEIGHTS = scratch() / "weights"
SIDES = st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**62, 2**64]), max_size=4)
OFFSETS = st.lists(st.integers(-8, 200), min_size=2, max_size=2)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(
            ["F32", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "C64", "X"]
        ),
        "shape": SIDES | VALUES,
        "data_offsets": OFFSETS | VALUES,
    }
)


def safetensors(data):
    """Headers that fit the data, and others."""
    header, at = {}, 0
    names = st.text("abc.é", min_size=1, max_size=5) | st.text(max_size=2)
    for name in data.draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        if data.draw(st.integers(0, 6)):
            shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
            end = at + 4 * int(np.prod(shape, dtype=int))
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
            at = end
        else:
            header[name] = data.draw(TENSOR)
    text = json.dumps(header).encode()
    length = len(text) + data.draw(st.sampled_from([0] * 8 + [-1, 1, 2**40]))
    body = bytes(max(0, at + data.draw(st.sampled_from([0] * 8 + [-1, 1, 100]))))
    WEIGHTS.write_bytes(struct.pack("<Q", max(length, 0)) + text + body)
    try:
        found = read(WEIGHTS)
        assert sum(array.nbytes for array in found.arrays.values()) <= len(body)
    except UserError as error:
        str(error).encode()


CONFIG = to_dict(Config())
PATHS = [path.split(".") for path, *_ in leaves(Config())]


def config(data):
    """A run's config.json with fields of other values; what is taken is valid in every field."""
    content = changed(data.draw, CONFIG, VALUES)
    *sections, name = data.draw(st.sampled_from(PATHS))
    node = content
    for section in sections:
        node = node.get(section) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node[name] = data.draw(VALUES)
    try:
        validate(from_dict(content))
    except UserError:
        pass


ALL = (rows, images, safetensors, config)


def run(prop, examples, number=0):
    """Feeds so many examples to a property; the same for the same number."""
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(chosen(given(st.data())(prop)))()


def main():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    started, rounds = time.monotonic(), 0
    while time.monotonic() - started < options.seconds:
        for prop in ALL:
            run(prop, 500, rounds)
        rounds += 1
        print(
            f"{rounds * 500:,} examples of each in {time.monotonic() - started:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
