"""The machine that a pickle is a program for: a stack, marks and a memory of objects.

It makes containers, numbers and text, and calls nothing but what it is given. Lengths and numbers
in the file are believed only as far as the file has bytes: an object for every instruction apart,
reading takes at most twice the memory that the file takes.
"""

import codecs
import mmap
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

DIGITS = 300  # of a number written as text
LONGEST_NAME = 4096  # characters
WIDEST = 1 << 22  # characters that take more than a byte each, in all texts
LAST_OF_LATIN1 = 0xC3  # the first byte of U+00FF in UTF-8


class ForbiddenName(pickle.UnpicklingError):
    """The pickle asks for something that no array needs."""


class _Name:
    """What a pickle may call; never the function itself."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function


def text(value: Any) -> str:
    """A string, which of Python 2 arrives as bytes.

    Raises:
        pickle.UnpicklingError: for anything else.
    """
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where text must be")
    return value


def check_keys(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Raises unless all keys are names or integers: tuples of tuples take for ever to hash."""
    for key, _ in pairs:
        name = type(key) in (str, bytes) and len(key) <= LONGEST_NAME
        if not name and not (type(key) is int and key.bit_length() <= 64):
            raise pickle.UnpicklingError("a key that is neither a name nor an integer")


class Machine:
    """Runs one pickle. Every method is an instruction or helps one: opcodes.py.

    Args:
        data: the pickle's bytes.
        names: what it may call.
    """

    def __init__(self, data: mmap.mmap | bytes, names: Mapping[str, Callable[..., Any]]):
        self.data, self.names, self.at = data, names, 0
        self.made = self.wide = 0  # bytes that calls made, and characters of over one byte
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under the marks
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        if not 0 <= count <= len(self.data) - self.at:
            left = len(self.data) - self.at
            raise pickle.UnpicklingError(f"{count:,} bytes are announced and {left:,} are there")
        self.at += count
        return self.data[self.at - count : self.at]

    def line(self, longest: int = LONGEST_NAME) -> bytes:
        """The bytes up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise pickle.UnpicklingError("a line without an end")
        line = self.take(end - self.at)
        self.at += 1
        return line

    def number(self, form: str) -> Any:
        """A number of `struct`'s form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def counted(self, form: str) -> bytes:
        """Bytes behind their count."""
        return self.take(self.number(form))

    def text(self, data: bytes, encoding: str = "utf-8") -> None:
        """Unicode. A file has little that is not latin1, which alone takes no more than its bytes.

        With one character of another alphabet, every character of a text takes up to four bytes.
        """
        if len(data) > WIDEST and (
            encoding != "utf-8" or np.frombuffer(data, np.uint8).max() > LAST_OF_LATIN1
        ):
            raise pickle.UnpicklingError(f"a text of {len(data):,} bytes")
        string = data.decode(encoding)
        if sys.getsizeof(string) > len(string) + 100:
            self.wide += len(string)
            if self.wide > WIDEST:
                raise pickle.UnpicklingError(f"over {WIDEST:,} characters of text")
        self.push(string)

    def push(self, value: Any) -> None:
        """One more object on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """The object on top."""
        if not self.stack:
            raise pickle.UnpicklingError("an empty stack")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """What lies above the mark."""
        if not self.below:
            raise pickle.UnpicklingError("no mark")
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: type) -> Any:
        """The container on top, which stays."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise pickle.UnpicklingError(f"no {kind.__name__} to add to")
        return self.stack[-1]

    def mark(self) -> None:
        """MARK."""
        self.below.append(self.stack)
        self.stack = []

    def digits(self) -> None:
        """INT and LONG; INT also writes truth values, as 00 and 01."""
        line = self.line(DIGITS)
        truth = {b"00": False, b"01": True}
        self.push(truth[line] if line in truth else int(line.rstrip(b"L")))

    def quoted(self) -> None:
        """STRING: bytes of Python 2, as it prints them."""
        line = self.line(len(self.data))
        if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
            raise pickle.UnpicklingError("text without quotation marks")
        self.push(codecs.escape_decode(line[1:-1])[0])

    def tuple_of(self, count: int) -> None:
        """TUPLE1 to TUPLE3."""
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def append(self, items: list[Any]) -> None:
        """APPEND and APPENDS."""
        self.top(list).extend(items)

    def update(self, items: list[Any]) -> None:
        """Pairs into a dictionary."""
        pairs = list(zip(items[::2], items[1::2], strict=True))
        check_keys(pairs)
        self.top(dict).update(pairs)

    def new_dict(self) -> None:
        """DICT."""
        items = self.pop_mark()
        self.push({})
        self.update(items)

    def one_pair(self) -> None:
        """SETITEM."""
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def put(self, index: int) -> None:
        """PUT: remembers the object on top."""
        if not self.stack:
            raise pickle.UnpicklingError("an empty stack")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        """GET: what was remembered, once more."""
        if index not in self.memo:
            raise pickle.UnpicklingError(f"there is no object {index} to use again")
        self.push(self.memo[index])

    def name(self, module: Any, name: Any) -> None:
        """What the pickle may call by this name."""
        full = f"{text(module)}.{text(name)}"
        if full not in self.names:
            raise ForbiddenName(f"{full:.200}")
        self.push(_Name(self.names[full]))

    def named(self) -> None:
        """GLOBAL."""
        self.name(self.line(), self.line())

    def named_by_stack(self) -> None:
        """STACK_GLOBAL."""
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self) -> None:
        """REDUCE and NEWOBJ."""
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call of what is no function")
        found = name.function(*arguments)
        self.made += len(found) if isinstance(found, bytes) else 0
        if self.made > len(self.data):
            raise pickle.UnpicklingError("more bytes than the file has")
        self.push(found)

    def build(self) -> None:
        """BUILD; of anything but what a call made, attributes are left out."""
        state = self.pop()
        restore = getattr(self.stack[-1], "restore", None) if self.stack else None
        if restore is not None:
            restore(state)

    def frame(self) -> None:
        """FRAME: so many bytes follow."""
        size, left = self.number("<Q"), len(self.data) - self.at
        if size > left:
            raise pickle.UnpicklingError(f"{size:,} bytes are announced and {left:,} are there")
