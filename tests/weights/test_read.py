"""What is read of each format; other, damaged and malicious files are refused."""

import builtins
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights.torch_resnet import python2_pickle

from pse_jax.errors import WeightsError
from pse_jax.weights import read as reading
from pse_jax.weights.read import read

TENSORS = {
    "conv.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2) / 7,
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "steps": torch.tensor(7),
    "brain": torch.tensor([0.5, 3.0], dtype=torch.bfloat16),
}
ARRAYS = {
    "conv1_w": np.arange(600, dtype=np.float32).reshape(2, 3, 100) / 7,  # over 255 bytes
    "res_conv1_bn_s": np.array([1.5, -2.0]),
    "steps": np.array([3, 4], np.int32),
}


def write(path, content):
    path.write_bytes(content)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        value = expected[name]
        value = value.float().numpy() if isinstance(value, torch.Tensor) else value
        assert type(array) is np.ndarray and array.shape == value.shape
        np.testing.assert_array_equal(array.astype(np.float64), value.astype(np.float64))


def message(path):
    with pytest.raises(WeightsError) as raised:
        read(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def torch_new(tensors, path):
    torch.save(tensors, path)


def torch_old(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def safetensors(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})


WRITERS = {"torch": torch_new, "old torch": torch_old, "safetensors": safetensors}


@pytest.mark.parametrize("write_tensors", WRITERS.values(), ids=WRITERS)
def test_tensors_come_back_whatever_the_file_is_called(tmp_path, write_tensors):
    file = tmp_path / "weights.txt"
    write_tensors(TENSORS, file)
    checkpoint = read(file)
    assert_same(checkpoint.arrays, TENSORS)
    assert checkpoint.extra_names == []
    assert checkpoint.arrays["half"].dtype == np.float16


def test_safetensors_metadata_is_read(tmp_path):
    save_file(TENSORS, tmp_path / "a", metadata={"made by": "me"})
    assert read(tmp_path / "a").metadata == {"made by": "me"}


PICKLES = {
    **{f"protocol {p}": pickle.dumps(ARRAYS, protocol=p) for p in range(6)},
    "Python 2": python2_pickle(ARRAYS),
    "wrapped": python2_pickle(ARRAYS, wrapper="blobs"),
    "big-endian": pickle.dumps({k: v.astype(v.dtype.newbyteorder(">")) for k, v in ARRAYS.items()}),
    "Fortran": pickle.dumps({k: np.asfortranarray(v) for k, v in ARRAYS.items()}),
    "ordered": pickle.dumps(OrderedDict(ARRAYS)),
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_pickled_arrays_come_back(tmp_path, content):
    checkpoint = read(write(tmp_path / "R-50.pkl", content))
    assert_same(checkpoint.arrays, ARRAYS)
    assert checkpoint.extra_names == []


def test_python2_pickle_writes_python_2_strings():
    assert_same(pickle.loads(python2_pickle(ARRAYS), encoding="latin1"), ARRAYS)


def test_everything_but_weights_is_left_out_and_named(tmp_path):
    arrays = ARRAYS | {"conv1_w_momentum": ARRAYS["conv1_w"], "weight_order": None}
    checkpoint = read(write(tmp_path / "a", python2_pickle(arrays)))
    assert_same(checkpoint.arrays, ARRAYS)
    assert set(checkpoint.extra_names) == {"conv1_w_momentum", "weight_order"}
    text = ARRAYS | {"cfg": "DEVICE: cuda", "objects": np.array([{}], object), "lr": 0.1}
    checkpoint = read(write(tmp_path / "b", pickle.dumps(text)))
    assert_same(checkpoint.arrays, ARRAYS)
    assert set(checkpoint.extra_names) == {"cfg", "objects", "lr"}


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_wrappers_and_a_common_prefix_are_taken_off(tmp_path, wrapper):
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01}]}
    tensors = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    torch.save({wrapper: tensors, "optimizer": optimizer, "iteration": 90_000}, tmp_path / "a")
    checkpoint = read(tmp_path / "a")
    assert_same(checkpoint.arrays, TENSORS)
    assert set(checkpoint.extra_names) == {"optimizer", "iteration"}
    torch.save(tensors | {"other": torch.ones(1)}, tmp_path / "b")
    assert "module.conv.weight" in read(tmp_path / "b").arrays


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluates:
    """Reaches for the interpreter through a module that arrays do need."""

    def __reduce__(self):
        return builtins.getattr, (np.ndarray, "__class__")


def test_a_malicious_pickle_runs_nothing(tmp_path):
    attack = {"conv1_w": ARRAYS["conv1_w"], "x": Runs(f"touch {tmp_path / 'owned'}")}
    text = message(write(tmp_path / "a.pkl", pickle.dumps(attack)))
    assert "posix.system" in text and "nothing was run" in text and "safetensors" in text
    assert "builtins.getattr" in message(
        write(tmp_path / "b.pkl", pickle.dumps({"x": Evaluates()}, protocol=4))
    )
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(attack))  # it is malicious
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("write_tensors", [torch_new, torch_old])
def test_a_malicious_pth_runs_nothing(tmp_path, write_tensors):
    write_tensors({"model": TENSORS, "x": Runs(f"touch {tmp_path / 'owned'}")}, tmp_path / "a.pth")
    assert "posix.system" in message(tmp_path / "a.pth")
    assert not (tmp_path / "owned").exists()


def test_a_whole_pickled_model_is_refused_with_what_to_do(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    assert "torch.nn.modules.linear.Linear" in message(tmp_path / "a.pth")


def test_pickled_arrays_of_a_wrong_length_are_refused(tmp_path):
    content = python2_pickle({"a": np.zeros(100, np.float32)})
    longer = content.replace(b"(J\x64\x00\x00\x00t", b"(J\xff\xff\xff\x7ft")
    assert longer != content
    assert "400 bytes for an array of shape" in message(write(tmp_path / "a", longer))


@pytest.mark.parametrize("kind", [*WRITERS, "pickle", "Python 2"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_files_are_refused(tmp_path, kind, share):
    file = tmp_path / "a"
    if kind in WRITERS:
        WRITERS[kind]({"weight": torch.zeros(2000)}, file)
    else:
        arrays = {"weight": np.zeros(2000, np.float32)}
        write(file, pickle.dumps(arrays) if kind == "pickle" else python2_pickle(arrays))
    content = file.read_bytes()
    text = message(write(file, content[: int(len(content) * share)]))
    assert "truncated or damaged" in text and "again" in text


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 50_000_000)
    text = message(file)
    assert "would unpack to 50,000,000" in text and "not opened" in text


def test_a_zip_archive_that_shares_its_bytes_is_not_unpacked(tmp_path):
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\0" * 10_000)
        for i in range(9):  # names in the directory that all lead to the same bytes
            archive.filelist.append(entry := zipfile.ZipInfo(f"a/data/{i}"))
            entry.file_size = entry.compress_size = 10_000
            entry.header_offset, entry.CRC = 0, 0
    assert "its parts overlap" in message(file)


def test_a_tensor_larger_than_its_data_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    assert "4,000,000,000,000 bytes, over 4 bytes" in message(tmp_path / "a.pth")


OTHER_FILES = {
    "a web page": b"\n<!DOCTYPE html><html>404</html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "a PNG image": b"\x89PNG\r\n\x1a\n0000",
    "a JPEG image": b"\xff\xd8\xff\xe0" + bytes(20),
    "a gzip archive": b"\x1f\x8b\x08" + bytes(20),
    "an HDF5 file": b"\x89HDF\r\n" + bytes(20),
    "of an unknown format": b"once upon a time",
    "text, perhaps JSON": b'{"a": [1, 2, 3]}',
    "is empty": b"",
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_files_of_other_formats_are_named(tmp_path, what):
    assert what in message(write(tmp_path / "resnet50.pth", OTHER_FILES[what]))


def test_other_archives_pickles_and_paths_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "not PyTorch's (it holds a.npy" in message(tmp_path / "a.npz")
    assert "holds a list" in message(write(tmp_path / "b", pickle.dumps([1, 2])))
    assert "holds no arrays, only lr" in message(write(tmp_path / "c", pickle.dumps({"lr": 1})))
    assert "does not exist" in message(tmp_path / "none")
    assert "is a folder" in message(tmp_path)


@pytest.mark.filterwarnings("ignore")  # quantised tensors are deprecated; old files have them
def test_tensors_without_plain_numbers_are_left_out(tmp_path):
    odd = {
        "complex": torch.zeros(2, dtype=torch.complex64),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.zeros(2, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    }
    torch.save(TENSORS | odd, tmp_path / "a.pth")
    checkpoint = read(tmp_path / "a.pth")
    assert_same(checkpoint.arrays, TENSORS)
    assert set(checkpoint.extra_names) == set(odd)


def test_without_torch_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pth")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert 'pip install "pse-jax[torch]"' in message(tmp_path / "a.pth")


def test_reading_copies_nothing_that_it_can_map(tmp_path):
    save_file({"a": torch.zeros(1000)}, tmp_path / "a")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "b")
    for name in "ab":
        array = reading.read(tmp_path / name).arrays["a"]
        assert not array.flags.owndata
