"""Fuzzes the reader of pickles, and of weights files of every other kind but PyTorch's own.

python -m tests.fuzz.unpickler --seconds 600
"""

import pickle
import struct
from collections import OrderedDict

import numpy as np

from tests.fuzz import harness

with harness.instrumented():
    from pse_jax.weights import unpickle

ARRAYS = OrderedDict(
    conv1_w=np.arange(12, dtype=np.float32).reshape(3, 4),
    bias=np.asfortranarray(np.ones((2, 2), ">f8")),
    step=np.int64(3),
    empty=np.zeros((0, 3), np.uint8),
    object=np.array([None]),
)
NESTED = {
    "blobs": ARRAYS,
    "epoch": 3,
    "lr": 0.5,
    "names": ("a", ["b", 2**70, None, True]),
    b"x": "é",
}
PYTHON2 = (
    b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nK\x00\x85U\x01b"
    b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ"
    b"\xff\xff\xff\xffK\x00tb\x89U\x080123abcdtbs."
)
NAMES = (
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"ccollections\nOrderedDict\n",
    b"c_codecs\nencode\n",
    b"c__builtin__\nbytes\n",
    b"cposix\nsystem\n",
    b"\x8c\x08builtins\x8c\x04eval\x93",
)
LENGTHS = (2**31 - 1, 2**28, 2**16)
WORDS = [
    *NAMES,
    *(code + struct.pack("<I", n) for code in (b"r", b"j", b"T", b"X", b"B") for n in LENGTHS),
    *(bytes([code]) + struct.pack("<Q", n) for code in b"\x8e\x8d\x95\x96" for n in LENGTHS),
    b"\x8b\xff\xff\xff\x7f", b"p2147483647\n", b"S'x\\x80'\n", b"Vx\\u20ac\n", b"I01\n", b"L7L\n",
    b"F1e999\n", b"(((", b"\x85R", b"tR", b"b", b"2", b"\x85\x85\x85\x85", b"\x94", b"h\x00",
    b"s", b"u",
]  # fmt: skip


def seeds():
    """Whole pickles of every protocol, and the declared lengths that once took gigabytes."""
    whole = [
        pickle.dumps(content, protocol) for content in (ARRAYS, NESTED) for protocol in range(6)
    ]
    bombs = [b"\x80\x02N" + word + b"." for word in WORDS]
    laughs = b"\x80\x02}" + b")" + b"2\x86" * 100 + b"Ns."  # a key that takes 2^100 steps to hash
    return [*whole, PYTHON2, *bombs, laughs]


FILE = harness.scratch() / "input.pkl"


def read(data):
    """Reads the bytes as a file."""
    FILE.write_bytes(data)
    unpickle.load(FILE)


if __name__ == "__main__":
    harness.main(read, seeds(), WORDS)
