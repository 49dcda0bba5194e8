"""Odd files of weights: a message, never a traceback, and no memory that the file does not have."""

import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from safetensors.numpy import save
from weights.torch_resnet import python2_pickle

import pse_jax
from pse_jax.errors import UserError, WeightsError
from pse_jax.weights import opcodes
from pse_jax.weights.read import read

ARRAYS = {"conv1_w": np.arange(600, dtype=np.float32).reshape(2, 3, 100), "b": np.ones(3)}
BIG = 2**31 - 1


def bomb(code, form="<I", number=BIG):
    return b"\x80\x02N" + code + struct.pack(form, number) + b"."


def tensors(header, data=bytes(16)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(shape, offsets, dtype="F32", name="a"):
    return tensors({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}})


def archive(*entries, **more):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in entries:
            file.writestr(name, content, **more)
    return stream.getvalue()


def array(shape, data=b"", code="f4"):
    """A pickle of an array that claims a shape."""

    class Claims:
        def __reduce__(self):
            start = (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"))
            return (*start, (1, shape, np.dtype(code), False, data))

    return pickle.dumps({"conv1_w": Claims()})


MOST = 3000  # instructions in these tests, where the checks of types make each slow
PROTOCOL = {p: pickle.dumps(ARRAYS, p) for p in range(6)}
LAUGHS = b"\x80\x02})" + b"2\x86" * 100  # a tuple of 2^100 parts
ODD = {
    # Lengths and numbers that the file does not have bytes for.
    "memo of 2^31": bomb(b"r"),
    "memo as text": b"\x80\x02Np2147483647\n.",
    "bytes of 2^31": bomb(b"T"),
    "text of 2^31": bomb(b"X"),
    "bytes of 2^32": bomb(b"B", "<I", 2**32 - 1),
    "bytes of 2^63": bomb(b"\x8e", "<Q", 2**63 - 1),
    "text of 2^63": bomb(b"\x8d", "<Q", 2**63 - 1),
    "bytearray of 2^40": bomb(b"\x96", "<Q", 2**40),
    "frame of 2^40": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "integer of 2^31 bytes": bomb(b"\x8b", "<i"),
    "negative length": bomb(b"T", "<i", -1),
    "integer of 10^6 digits": b"(dL" + b"9" * 10**6 + b"L\ns.",
    "array of 2^62": array((2**31, 2**31)),
    "array of nothing times 2^62": array((0, 2**62)),
    "array of negative sides": array((-2, -2), bytes(16)),
    "array of truth values": array((True, True), bytes(4)),
    "array of 40 sides": array((1,) * 40, bytes(4)),
    "array of half a shape": array((2.5,), bytes(10)),
    "array of no shape": array(None, bytes(4)),
    "array of another type": array((4,), bytes(4), "V1"),
    # What takes for ever or runs something.
    "key of 2^100 parts": LAUGHS + b"Ns.",
    "name of 2^100 parts": b"\x80\x02}X\1\0\0\0a" + LAUGHS[3:] + b"s.",
    "dtype of 2^100 parts": b"\x80\x02cnumpy\ndtype\n" + LAUGHS[3:] + b"\x85R.",
    "too many instructions": b"\x80\x02" + b"N0" * MOST + b".",
    "too many marks": b"\x80\x02" + b"(" * MOST,
    "eval": b"\x80\x02cbuiltins\neval\nX\1\0\0\0" + b"1\x85R.",
    "instance": b"(iposix\nsystem\n.",
    "persistent id": b"\x80\x02X\1\0\0\0aQ.",
    "extension": b"\x80\x02\x82\x01.",
    "a name for a key": b"\x80\x02}cnumpy\ndtype\nNs.",
    "itself": b"\x80\x02]q\0h\0a.",
    "cut in the header": PROTOCOL[2][:3],
    **{f"protocol {p} cut": PROTOCOL[p][: len(PROTOCOL[p]) // 2] for p in PROTOCOL},
    "Python 2 cut": python2_pickle(ARRAYS)[:-100],
    # safetensors.
    "header of 2^63": struct.pack("<Q", 2**63) + b"{",
    "header of 90 MB": struct.pack("<Q", 90_000_000) + b"{}",
    "header that is no JSON": tensors(b"{nonsense"),
    "header that nests": tensors(b'{"a":' * 20_000),
    "header that is a list": tensors(b"{[]}"),
    "tensor beyond the file": one([1000], [0, 4000]),
    "tensor of another size": one([3], [0, 16]),
    "tensor of 2^64": one([2**32, 2**32], [0, 16]),
    "tensor of nothing times 2^62": one([0, 2**62], [0, 0]),
    "tensor of 100 sides": one([1] * 100, [0, 4]),
    "tensor of negative sides": one([-4], [0, 16]),
    "offsets backwards": one([4], [16, 0]),
    "type unknown": one([4], [0, 16], "F5"),
    "name of control characters": one([4], [0, 16], name="a\x1b[2J\n"),
    "name of 10^5 characters": one([4], [0, 16], name="a" * 100_000),
    "two tensors in one place": tensors({
        name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"
    }),
    "safetensors cut": save({"a": np.ones(100, np.float32)})[:-10],
    # Archives.
    "archive of nothing": archive(),
    "archive of others": archive(("a.npy", b"x")),
    "archive cut": archive(("a/data.pkl", PROTOCOL[2]))[:-10],
    "archive that unpacks": archive(("a/data.pkl", bytes(10**6)), compress_type=8),  # deflate
    "archive of a bomb": archive(("a/data.pkl", bomb(b"r")), ("a/version", b"3")),
    "archive of eval": archive(("a/data.pkl", b"\x80\x02cos\nsystem\n."), ("a/version", b"3")),
    "archive of damage": b"PK\x03\x04" + bytes(range(256)) * 4,
    "old PyTorch of nothing": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    "old PyTorch of a bomb": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bomb(b"r"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """What the first read of a file imports is no memory of a file."""
    file = tmp_path_factory.mktemp("first") / "a"
    for content in (PROTOCOL[4], b"\x80\x02N", save(ARRAYS), ODD["archive of a bomb"]):
        file.write_bytes(content)
        with contextlib.suppress(WeightsError):
            read(file)


@pytest.fixture(autouse=True)
def few_instructions(monkeypatch):
    assert opcodes.MOST <= 250_000
    monkeypatch.setattr(opcodes, "MOST", MOST)


@pytest.mark.parametrize("name", ODD)
def test_a_message_and_no_more_memory_than_the_file_has(tmp_path, name):
    file = tmp_path / "weights"
    file.write_bytes(ODD[name])
    peaks = []
    for _ in range(2):  # the lower one: what else the process does once is not the file's
        tracemalloc.start()
        try:
            with pytest.raises(WeightsError) as raised:
                read(file)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    text, peak = str(raised.value), min(peaks)
    assert str(file) in text and len(text) < 1000 and "\x1b" not in text
    assert peak < (64 << 20) + 2 * len(ODD[name])


def test_there_are_enough_of_them():
    assert len(ODD) >= 39


def test_the_same_from_load(tmp_path):
    for k, content in enumerate(ODD.values()):
        file = tmp_path / f"{k}.pth"
        file.write_bytes(content)
        with pytest.raises(UserError):
            pse_jax.load(file)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "dangling", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.pth"
    {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": lambda: path.mkdir(),
        "dangling": lambda: path.symlink_to(tmp_path / "gone"),
        "loop": lambda: path.symlink_to(path),
    }[kind]()
    with pytest.raises(WeightsError, match=r"a\.pth (cannot be read|does not exist)"):
        read(path)
    with pytest.raises(UserError):
        pse_jax.load(path)


def test_bytes_are_made_no_more_often_than_the_file_has_them(tmp_path):
    """`_codecs.encode` of one remembered text, a hundred times."""
    text = b"\x80\x02c_codecs\nencode\nq\0X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"q\1"
    text += b"X\x06\0\0\0latin1q\2" + (b"h\0h\1h\2\x86R") * 100 + b"."
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(WeightsError, match="more bytes than the file has"):
        read(tmp_path / "a")


def test_wide_text_takes_no_more_memory_than_the_file_has(tmp_path):
    """One character of another alphabet makes a text of Python four times as large."""
    for count in (1, 60):
        wide = "x" * (24_000_000 // count) + "😀"
        (tmp_path / "a").write_bytes(pickle.dumps([wide[k:] for k in range(count)], 4))
        size = (tmp_path / "a").stat().st_size
        tracemalloc.start()
        try:
            with pytest.raises(WeightsError):
                read(tmp_path / "a")
            assert tracemalloc.get_traced_memory()[1] < (64 << 20) + 2 * size
        finally:
            tracemalloc.stop()


def test_whole_files_take_twice_their_size_at_most(tmp_path):
    arrays = {f"{k}": np.ones(2_000_000, np.float32) for k in range(20)}
    for protocol in (2, 4):
        (tmp_path / "a").write_bytes(pickle.dumps(OrderedDict(arrays), protocol))
        size = (tmp_path / "a").stat().st_size
        tracemalloc.start()
        found = read(tmp_path / "a").arrays
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (64 << 20) + 2 * size
        assert all((found[name] == array).all() for name, array in arrays.items())


def test_it_is_said_when_torch_reads_a_file(tmp_path, caplog):
    torch = pytest.importorskip("torch")
    caplog.set_level("INFO", "pse_jax")
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    read(tmp_path / "a.pth")
    assert f"{tmp_path / 'a.pth'} is read by torch's own loader (weights_only=True)" in caplog.text
    caplog.clear()
    (tmp_path / "b.pkl").write_bytes(PROTOCOL[4])
    read(tmp_path / "b.pkl")
    assert "torch" not in caplog.text
