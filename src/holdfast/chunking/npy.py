"""numpy's .npy: a magic, a version, a short text that says dtype, order and shape, the numbers."""

from __future__ import annotations

import re
from math import prod

from holdfast.chunking.contents import Contents, Doubt, Getter, contents, of_tensor
from holdfast.format.tensors import Tensor

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 65_536

_HEADER = re.compile(
    rb"\{'descr': '([<>|])([fiubc])(\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\), \} *\n"
)
_LETTERS = {b"f": "F", b"i": "I", b"u": "U", b"b": "BOOL", b"c": "C"}


def parse(get: Getter, size_bytes: int) -> Contents:
    found = tensor(get, 0, size_bytes, "")
    return contents("npy", [found], [of_tensor(found)], size_bytes)


def tensor(get: Getter, start: int, stop: int, name: str) -> Tensor:
    """The array of the .npy file that lies at `start` to `stop`."""
    front = bytes(get(start, min(12, stop - start)))
    if front[:6] != MAGIC or len(front) < 12 or front[6] not in (1, 2, 3):
        raise Doubt("it is no .npy of a known version")
    width = 2 if front[6] == 1 else 4
    length = int.from_bytes(front[8 : 8 + width], "little")
    begin = start + 8 + width + length
    if length > MAX_HEADER_BYTES or begin > stop:
        raise Doubt("its header has no length that fits")
    found = _HEADER.fullmatch(bytes(get(start + 8 + width, length)))
    if not found:
        raise Doubt("its header has another form, as of structured arrays and objects")
    order, letter, bytes_, fortran, numbers = found.groups()
    shape = tuple(int(number) for number in numbers.split(b",") if number.strip())
    dtype = "BOOL" if letter == b"b" else f"{_LETTERS[letter]}{8 * int(bytes_)}"
    end = begin + int(bytes_) * prod(shape)
    if end != stop:
        raise Doubt("it is not as long as its header says")
    strides = _fortran(shape) if fortran == b"True" and len(shape) > 1 else None
    return Tensor(name, (">" if order == b">" else "") + dtype, shape, begin, end, strides)


def _fortran(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[:place]) for place in range(len(shape)))
