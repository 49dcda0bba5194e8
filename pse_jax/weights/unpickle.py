"""Reads pickles of NumPy arrays without calling anything that they name.

A pickle is a program: it names functions and calls them. Here the names that an array needs are
replaced by the functions below, which take bytes, shapes and type codes; all others are errors.
"""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pse_jax.errors import WeightsError


class ForbiddenName(pickle.UnpicklingError):
    """The pickle asks for something that no array needs."""


def text(value: Any) -> str:
    """A string, which of Python 2 arrives as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Dtype:
    """Replaces numpy.dtype; `dtype` is None for anything but plain numbers."""

    def __init__(self, code: Any, *_: Any):
        code = text(code)
        plain = len(code) > 1 and code[0] in "fiub" and code[1:].isdigit()
        self.dtype = np.dtype(code) if plain else None

    def __setstate__(self, state: tuple) -> None:
        if self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(text(state[1]))  # pyright: ignore


class Pickled:
    """Replaces an array; `array` stays None if it holds anything but plain numbers."""

    array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: _Dtype, shape: tuple, order: str) -> "Pickled":
        """Makes the array of these bytes, without a copy."""
        if isinstance(data, bytes | bytearray) and dtype.dtype is not None:
            if len(data) != math.prod(shape) * dtype.dtype.itemsize:
                raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {shape}")
            order = "F" if text(order) == "F" else "C"
            self.array = np.ndarray(shape, dtype.dtype, data, order=order)
        return self


def _from_buffer(data: Any, dtype: _Dtype, shape: tuple, order: Any = "C", *_: Any) -> Pickled:
    return Pickled().fill(data, dtype, shape, order)


def _scalar(dtype: _Dtype, data: Any = b"") -> Pickled:
    return Pickled().fill(data, dtype, (), "C")


def _encode(string: str, encoding: Any) -> bytes:
    """How Python 3 writes bytes in old protocols."""
    if text(encoding) != "latin1":
        raise pickle.UnpicklingError(f"an encoding {encoding!r}")
    return string.encode("latin1")


_REPLACEMENTS = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": lambda *_: Pickled(),
    "collections.OrderedDict": dict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",
    "builtins.bytes": lambda: b"",
}
for _core in ("numpy.core", "numpy._core"):  # before and after NumPy 2
    _REPLACEMENTS[f"{_core}.multiarray._reconstruct"] = lambda *_: Pickled()
    _REPLACEMENTS[f"{_core}.multiarray.scalar"] = _scalar
    _REPLACEMENTS[f"{_core}.numeric._frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        replacement = _REPLACEMENTS.get(f"{module}.{name}")
        if replacement is None:
            raise ForbiddenName(f"{module}.{name}")
        # A new function each time: a pickle may set attributes of what it is given.
        return lambda *args: replacement(*args)


def load(path: Path) -> Any:
    """What a pickle holds: containers, numbers and text as they are, arrays as `Pickled`.

    Python 2's strings stay bytes, so that an array needs no copy of them.

    Raises:
        WeightsError: if it asks for anything else or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="bytes").load()
    except ForbiddenName as error:
        raise forbidden(path, str(error)) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise WeightsError(
            f"{path} is a pickle that is truncated or damaged ({error or type(error).__name__}); "
            "download or copy it again"
        ) from error


def forbidden(path: Path, name: str) -> WeightsError:
    """The error for a file that names something else than arrays."""
    return WeightsError(
        f"{path} asks for {name}, which no array needs; nothing was run. A file of weights holds "
        "only arrays and containers: if you trust its source, load it with the program that wrote "
        "it and save the state_dict's tensors with safetensors"
    )
