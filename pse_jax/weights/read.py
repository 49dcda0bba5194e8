"""Reads files of weights: NumPy arrays under the names that the file gives them.

The first bytes of a file decide its format, never its name, and no file runs any code.
"""

import dataclasses
import logging
import math
import re
import reprlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from pse_jax.errors import WeightsError
from pse_jax.files import open_regular
from pse_jax.weights import unpickle
from pse_jax.weights.machine import LONGEST_NAME

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The arrays of a file, in one flat dictionary; they may be views of the file."""

    arrays: dict[str, np.ndarray]
    extra_names: list[str]  # everything else: optimiser, schedule, momenta, text
    metadata: dict[str, str]  # of a .safetensors file


def read(path: Path) -> Checkpoint:
    """Reads a .safetensors file, a PyTorch .pth (new or old) or a pickle of NumPy arrays.

    The usual wrappers ("model", "state_dict", ...) are removed, and a `module.` that all names
    have. bfloat16 stays bfloat16 from safetensors and becomes float32 from PyTorch.

    Raises:
        WeightsError: if the file is missing, truncated, something else, or asks to run code.
    """
    path = Path(path)
    container = _container(path)
    metadata: dict[str, str] = {}
    if container == "safetensors":
        raw, metadata = _open_safetensors(path)
        arrays, extra_names = _flatten(raw, lambda value: value, path)
    elif container == "torch":
        arrays, extra_names = _flatten(*_open_torch(path), path)
    else:
        raw = unpickle.load(path)
        arrays, extra_names = _flatten(raw, lambda value: getattr(value, "array", None), path)
    return Checkpoint(arrays, extra_names, metadata)


_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled, after 2 bytes
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(d", b"}")
_OTHER_FORMATS = (
    (b"<", "a web page, perhaps a login or an error instead of the file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to (`git lfs pull`)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file, perhaps of Keras"),
    (b"{", "text, perhaps JSON"),
)


def _container(path: Path) -> str:
    """One of "torch", "safetensors" and "pickle", by the first bytes."""
    try:
        with open_regular(path) as file:
            head = file.read(512)
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist; give a file of weights") from None
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}; give a file of weights"
        ) from error
    if not head:
        raise WeightsError(f"{path} is empty; download or copy it again")
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return "torch"
    if head[2:].startswith(_OLD_TORCH):
        return "torch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    other = next((what for magic, what in _OTHER_FORMATS if head.lstrip().startswith(magic)), None)
    if head.startswith(_PICKLE):
        return "pickle"
    raise WeightsError(
        f"{path} is {other or 'of an unknown format'} (it begins with {head[:16]!r}); give a "
        ".safetensors file, a PyTorch .pth or a Detectron .pkl"
    )


def _check_zip(path: Path) -> None:
    """Raises for an archive that torch.save did not write, which never compresses."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # a damaged archive may raise anything
        raise _damaged(path, "PyTorch file", error) from error
    declared = sum(entry.file_size for entry in entries)
    compressed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if compressed or declared > size:
        what = f"{compressed[0].filename!r} is compressed" if compressed else "its parts overlap"
        raise WeightsError(
            f"{path} has {size:,} bytes and would unpack to {declared:,}: {what}, which PyTorch "
            "never writes. It was not opened; if it is a zip archive of weights, unpack it first"
        )
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        names = ", ".join(entry.filename for entry in entries[:3])
        raise WeightsError(
            f"{path} is a zip archive, but not PyTorch's (it holds {names}, ...); give a "
            ".safetensors file, a PyTorch .pth or a Detectron .pkl"
        )


ToNumpy = Callable[[Any], np.ndarray | None]  # None for anything but an array

_SAFETENSORS_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def _open_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Views of the file: the library checks the header, and NumPy maps the data."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
            metadata = dict(file.metadata() or {})
            described = [(name, s.get_dtype(), s.get_shape()) for name, s in slices]
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, "safetensors file", error) from error
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    arrays = {}
    for name, code, shape in described:  # in the order of the file, without gaps
        if code not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{path}: {name} is of type {code}; save it as F32 or F16")
        dtype = np.dtype(_SAFETENSORS_TYPES[code])
        stop = start + math.prod(shape) * dtype.itemsize
        try:
            arrays[name] = np.asarray(data[start:stop]).view(dtype).reshape(shape)
        except ValueError as error:  # more dimensions than NumPy has, or nothing times too much
            raise _damaged(path, "safetensors file", error) from error
        start = stop
    return arrays, metadata


def _open_torch(path: Path) -> tuple[Any, ToNumpy]:
    """Through torch's weights-only loader; a new file's tensors are views of the file."""
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f'{path} is a PyTorch file, and reading it needs torch: pip install "pse-jax[torch]" '
            "(or convert it to .safetensors, which needs nothing)"
        ) from error
    try:
        logger.info("weights     %s is read by torch's own loader (weights_only=True)", path)
        mapped = zipfile.is_zipfile(path)
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file may raise anything
        name = re.search(r"GLOBAL ([\w.]*\w)\s", str(error))
        if name:
            raise unpickle.forbidden(path, name[1]) from error
        raise _damaged(path, "PyTorch file", error) from error

    def to_numpy(value: Any) -> np.ndarray | None:
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return None
        if value.is_quantized or value.is_complex() or value.is_meta:
            return None
        if value.nbytes > value.untyped_storage().nbytes():
            raise WeightsError(
                f"{path} declares a tensor of shape {tuple(value.shape)}, {value.nbytes:,} bytes, "
                f"over {value.untyped_storage().nbytes():,} bytes of data; it was not read"
            )
        known = (torch.float16, torch.float32, torch.float64)
        plain = not value.is_floating_point() or value.dtype in known
        try:
            return (value if plain else value.float()).detach().numpy()
        except (RuntimeError, TypeError, ValueError):  # NumPy has no such type, or dimensions
            return None

    return raw, to_numpy


def _damaged(path: Path, what: str, error: Exception) -> WeightsError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return WeightsError(
        f"{path} is a {what} of {path.stat().st_size:,} bytes that is truncated or damaged "
        f"({reason}); download or copy it again"
    )


_WRAPPERS = ("model", "state_dict", "model_state_dict", "blobs")


def _flatten(raw: Any, to_numpy: ToNumpy, path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays inside the wrappers, and the names of everything else."""
    node, extra_names = _named(raw, path), []
    for _ in range(2):  # some are wrapped twice
        inner = next((key for key in _WRAPPERS if isinstance(node.get(key), Mapping)), None)
        if inner is None:
            break
        extra_names += [name for name in node if name != inner]
        node = _named(node[inner], path)
    arrays = {}
    for name, value in node.items():
        array = to_numpy(value)
        if array is None or name.endswith("_momentum") or name == "weight_order":
            extra_names.append(name)
        else:
            arrays[name] = array
    if not arrays:
        only = ", ".join(extra_names[:5]) or "nothing"
        raise WeightsError(f"{path} holds no arrays, only {only}")
    if all(name.startswith("module.") for name in arrays):  # of DistributedDataParallel
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return arrays, extra_names


def _named(node: Any, path: Path) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise WeightsError(
            f"{path} holds a {type(node).__name__}; it must be a dictionary of names and arrays"
        )
    return {_name(name, path): value for name, value in node.items()}


def _name(name: Any, path: Path) -> str:
    """A key as text; an integer, as an optimiser has, in digits."""
    name = name.decode("latin1") if isinstance(name, bytes) else name
    name = f"{name}" if isinstance(name, int) and name.bit_length() <= 64 else name
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable():
        raise WeightsError(
            f"{path} names an array by {reprlib.repr(name)}; a name is printable text of at most "
            f"{LONGEST_NAME:,} characters"
        )
    return name
