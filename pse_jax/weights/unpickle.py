"""Reads pickles of NumPy arrays without calling anything that they name.

A pickle is a program for a small machine with a stack (machine.py, opcodes.py). The names that an
array needs stand for the functions below, which take bytes, shapes and type codes; all others are
errors.
"""

import math
import mmap
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pse_jax.errors import WeightsError
from pse_jax.files import open_regular
from pse_jax.weights import opcodes
from pse_jax.weights.machine import ForbiddenName, check_keys, text


class _Dtype:
    """Replaces numpy.dtype; `dtype` is None for anything but plain numbers."""

    def __init__(self, code: Any, *_: Any):
        code = text(code)
        plain = len(code) == 2 and code[0] in "fiub" and code[1] in "1248"
        self.dtype = np.dtype(code) if plain else None

    def restore(self, state: tuple) -> None:
        if self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(text(state[1]))  # pyright: ignore


class Pickled:
    """Replaces an array; `array` stays None if it holds anything but plain numbers."""

    array: np.ndarray | None = None

    def restore(self, state: tuple) -> None:
        """What BUILD says of it."""
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: _Dtype, shape: Any, order: Any) -> "Pickled":
        """Makes the array of these bytes, without a copy."""
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array without a type")
        if isinstance(data, bytes | bytearray) and dtype.dtype is not None:
            if not isinstance(shape, tuple) or len(shape) > 32 or not all(map(_is_side, shape)):
                raise pickle.UnpicklingError(f"{len(data)} bytes for an array of an invalid shape")
            if len(data) != math.prod(shape) * dtype.dtype.itemsize:
                raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {shape}")
            order = "F" if text(order) == "F" else "C"
            self.array = np.ndarray(shape, dtype.dtype, data, order=order)
        return self


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: Any = "C", *_: Any) -> Pickled:
    return Pickled().fill(data, dtype, shape, order)


def _scalar(dtype: _Dtype, data: Any = b"") -> Pickled:
    return Pickled().fill(data, dtype, (), "C")


def _encode(string: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes in old protocols."""
    if text(encoding) != "latin1":
        raise pickle.UnpicklingError("an encoding that is not latin1")
    return text(string).encode("latin1")


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Python 2 gives the pairs as an argument, Python 3 adds them one by one."""
    items = [(key, value) for key, value in pairs]
    check_keys(items)
    return dict(items)


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": lambda *_: Pickled(),
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",
    "builtins.bytes": lambda: b"",
    "__builtin__.bytearray": lambda data=b"": data,
    "builtins.bytearray": lambda data=b"": data,
}
for _core in ("numpy.core", "numpy._core"):  # before and after NumPy 2
    _REPLACEMENTS[f"{_core}.multiarray._reconstruct"] = lambda *_: Pickled()
    _REPLACEMENTS[f"{_core}.multiarray.scalar"] = _scalar
    _REPLACEMENTS[f"{_core}.numeric._frombuffer"] = _from_buffer


def load(path: Path) -> Any:
    """What a pickle holds: containers, numbers and text as they are, arrays as `Pickled`.

    Python 2's strings stay bytes, so that an array needs no copy of them.

    Raises:
        WeightsError: if it asks for anything else or is damaged.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise pickle.UnpicklingError("it is empty")
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                return opcodes.run(data, _REPLACEMENTS)
    except ForbiddenName as error:
        raise forbidden(path, str(error)) from error
    except Exception as error:  # a damaged pickle may raise anything
        reason = str(error)[:300] or type(error).__name__
        raise WeightsError(
            f"{path} is a pickle that is truncated or damaged ({reason}); download or copy it again"
        ) from error


def forbidden(path: Path, name: str) -> WeightsError:
    """The error for a file that names something else than arrays."""
    return WeightsError(
        f"{path} asks for {name}, which no array needs; nothing was run. A file of weights holds "
        "only arrays and containers: if you trust its source, load it with the program that wrote "
        "it and save the state_dict's tensors with safetensors"
    )
