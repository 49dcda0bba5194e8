"""The instructions of pickles, protocols 0 to 5, that files of weights have."""

import mmap
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from pse_jax.weights.machine import DIGITS, Machine

# A published detector has some ten thousand. Each makes at most one small object, so that all of
# them take less than 64 MB.
MOST = 250_000


def run(data: mmap.mmap | bytes, names: Mapping[str, Callable[..., Any]]) -> Any:
    """The object that a pickle makes.

    Args:
        data: the pickle's bytes.
        names: what it may call; an object that a call makes may have a method `restore` for what
            the pickle says of its state.

    Raises:
        ForbiddenName: if it names anything else.
        Exception: of many kinds, if it is damaged.
    """
    machine = Machine(data, names)
    for _ in range(MOST):
        code = machine.take(1)
        if code == b".":
            return machine.pop()
        operation = OPERATIONS.get(code)
        if operation is None:
            raise pickle.UnpicklingError(f"the instruction {code!r}, which no array needs")
        operation(machine)
    raise pickle.UnpicklingError(f"over {MOST:,} instructions")


def _whole(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


OPERATIONS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": Machine.frame,
    b"(": Machine.mark,
    b"0": lambda m: m.pop() if m.stack else m.pop_mark(),
    b"1": Machine.pop_mark,
    b"2": lambda m: m.stack.extend([m.pop()] * 2),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": Machine.digits,
    b"L": Machine.digits,
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(_whole(m.counted("<B"))),
    b"\x8b": lambda m: m.push(_whole(m.counted("<i"))),
    b"F": lambda m: m.push(float(m.line(DIGITS))),
    b"G": lambda m: m.push(m.number(">d")),
    b"S": Machine.quoted,
    b"T": lambda m: m.push(m.counted("<i")),
    b"U": lambda m: m.push(m.counted("<B")),
    b"B": lambda m: m.push(m.counted("<I")),
    b"C": lambda m: m.push(m.counted("<B")),
    b"\x8e": lambda m: m.push(m.counted("<Q")),
    b"\x96": lambda m: m.push(m.counted("<Q")),  # a bytearray
    b"V": lambda m: m.text(m.line(len(m.data)), "raw-unicode-escape"),
    b"X": lambda m: m.text(m.counted("<I")),
    b"\x8c": lambda m: m.text(m.counted("<B")),
    b"\x8d": lambda m: m.text(m.counted("<Q")),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"l": lambda m: m.push(m.pop_mark()),
    b"d": Machine.new_dict,
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_mark()),
    b"s": Machine.one_pair,
    b"u": lambda m: m.update(m.pop_mark()),
    b"p": lambda m: m.put(int(m.line(DIGITS))),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.get(int(m.line(DIGITS))),
    b"h": lambda m: m.get(m.number("<B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"c": Machine.named,
    b"i": Machine.named,  # INST, which then calls it: no name may be called so
    b"\x93": Machine.named_by_stack,
    b"R": Machine.call,
    b"\x81": Machine.call,  # NEWOBJ
    b"b": Machine.build,
}
