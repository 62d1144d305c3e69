"""The tensor table of a recipe: what lies where in an artifact that is a checkpoint.

A row is `[name, dtype, shape, start, stop, strides]`. Bytes `start` to `stop` of the artifact hold the
tensor; `strides`, in elements, is nil when it lies in C order without gaps. See docs/format/recipe.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 4096
MAX_DIMENSIONS = 64
MAX_BYTES = 1 << 62

# Bytes of one element. A dtype with '>' in front is big-endian; all others are little-endian. What has
# no entry here (the packed types of GGUF) has no element that can be told, and no strides.
ELEMENT_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8,
    "I64": 8, "F64": 8, "C32": 4, "C64": 8, "C128": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """`dtype` is one of ELEMENT_BYTES, with '>' in front if big-endian, or a packed type ('GGML_…')."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    strides: tuple[int, ...] | None = None


def element_bytes(dtype: str) -> int:
    """Bytes of one element; 0 for a packed type that has none."""
    return ELEMENT_BYTES.get(dtype.removeprefix(">"), 0)


def extent(tensor: Tensor) -> int:
    """How many bytes the shape and the strides of a tensor span; -1 for a packed type."""
    width = element_bytes(tensor.dtype)
    if not width:
        return -1
    if tensor.strides is None or 0 in tensor.shape:
        return width * prod(tensor.shape)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    return width * (1 + sum((size - 1) * stride for size, stride in steps))


def check(tensor: Tensor) -> None:
    """ValueError unless the row is as defined."""
    if not isinstance(tensor.name, str) or len(tensor.name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a tensor has a name that is no text of at most {MAX_NAME_BYTES} bytes")
    if not isinstance(tensor.dtype, str) or len(tensor.dtype) > 32:
        raise ValueError(f"the tensor {tensor.name!r} has a dtype that is none")
    if not all(_whole(axis) for axis in (tensor.shape, tensor.strides or ())):
        raise ValueError(f"the tensor {tensor.name!r} has a shape that is none")
    if tensor.strides is not None and len(tensor.strides) != len(tensor.shape):
        raise ValueError(f"the tensor {tensor.name!r} has not one stride for each dimension")
    if not all(type(at) is int for at in (tensor.start, tensor.stop)):
        raise ValueError(f"the tensor {tensor.name!r} lies nowhere")
    if not 0 <= tensor.start <= tensor.stop <= MAX_BYTES:
        raise ValueError(f"the tensor {tensor.name!r} lies nowhere")
    if extent(tensor) not in (-1, tensor.stop - tensor.start):
        raise ValueError(f"the tensor {tensor.name!r} has another size than its shape says")


def _whole(numbers: Any) -> bool:
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= MAX_DIMENSIONS
        and all(type(number) is int and 0 <= number <= MAX_BYTES for number in numbers)
    )


def pack_tensors(tensors: Iterable[Tensor]) -> list[list[Any]]:
    """The rows, for msgpack."""
    return [[t.name, t.dtype, t.shape, t.start, t.stop, t.strides] for t in tensors]


def unpack_tensors(rows: Any) -> tuple[Tensor, ...]:
    """The table from unpacked rows. Raises ValueError if it is not as defined."""
    if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
        raise ValueError(f"its tensors are no list of at most {MAX_TENSORS}")
    tensors = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 6 or not isinstance(row[2], list):
            raise ValueError("a tensor has not six fields")
        strides = tuple(row[5]) if isinstance(row[5], list) else row[5]
        tensor = Tensor(row[0], row[1], tuple(row[2]), row[3], row[4], strides)
        check(tensor)
        tensors.append(tensor)
    return tuple(tensors)
