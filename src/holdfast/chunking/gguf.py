"""GGUF, the format of llama.cpp: numbers and texts about the model, a list of tensors, the tensors."""

from __future__ import annotations

from math import prod

from holdfast.chunking.contents import Contents, Doubt, Getter, Reader, contents, of_tensor
from holdfast.format.tensors import MAX_DIMENSIONS, MAX_TENSORS, Tensor, element_bytes

MAX_HEADER_BYTES = 256 << 20  # vocabularies are long
MAX_ITEMS = 10_000_000  # elements of arrays in the header, all together

# Bytes of each type.
_FIXED: dict[int, int] = {
    0: 1,
    1: 1,
    2: 2,
    3: 2,
    4: 4,
    5: 4,
    6: 4,
    7: 1,
    10: 8,
    11: 8,
    12: 8,
}
_TEXT, _ARRAY = 8, 9
_TYPES = {
    0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16",
}  # fmt: skip


def parse(get: Getter, size_bytes: int) -> Contents:
    reader = Reader(get, 4, min(size_bytes, MAX_HEADER_BYTES))
    if reader.number(4) not in (2, 3):
        raise Doubt("its version is not known")
    tensor_count, about_count = reader.number(8), reader.number(8)
    if tensor_count > MAX_TENSORS or about_count > MAX_TENSORS:
        raise Doubt("it claims too many tensors")
    alignment, budget = 32, [MAX_ITEMS]
    for _ in range(about_count):
        key, kind = _text(reader), reader.number(4)
        if key == b"general.alignment" and kind == 4:
            alignment = reader.number(4)
        else:
            _skip(reader, kind, budget)
    if not 1 <= alignment <= 1 << 20:
        raise Doubt("its alignment makes no sense")
    rows = sorted((_row(reader) for _ in range(tensor_count)), key=lambda row: row[3])
    start = -(-reader.at // alignment) * alignment
    ends = [start + row[3] for row in rows[1:]] + [size_bytes]
    tensors = [_tensor(*row[:3], start + row[3], end) for row, end in zip(rows, ends, strict=True)]
    return contents("gguf", tensors, map(of_tensor, tensors), size_bytes)


def _text(reader: Reader) -> bytes:
    return reader.take(reader.number(8))


def _skip(reader: Reader, kind: int, budget: list[int]) -> None:
    if kind in _FIXED:
        reader.take(_FIXED[kind])
    elif kind == _TEXT:
        _text(reader)
    elif kind == _ARRAY:
        of, count = reader.number(4), reader.number(8)
        if of in _FIXED:
            reader.take(_FIXED[of] * count)
            return
        budget[0] -= count
        if of != _TEXT or budget[0] < 0:
            raise Doubt("an array in its header makes no sense")
        for _ in range(count):
            _text(reader)
    else:
        raise Doubt("a value in its header has no known type")


def _row(reader: Reader) -> tuple[str, tuple[int, ...], str, int]:
    """(name, shape, dtype, offset). GGUF names the fastest dimension first."""
    name, dimensions = _text(reader).decode(), reader.number(4)
    if dimensions > MAX_DIMENSIONS:
        raise Doubt("a tensor has too many dimensions")
    shape = tuple(reader.number(8) for _ in range(dimensions))[::-1]
    kind = reader.number(4)
    return name, shape, _TYPES.get(kind, f"GGML_{kind}"), reader.number(8)


def _tensor(name: str, shape: tuple[int, ...], dtype: str, start: int, end: int) -> Tensor:
    """A packed type reaches to the next tensor; of the others the length is known."""
    width = element_bytes(dtype)
    stop = start + width * prod(shape) if width else end
    return Tensor(name, dtype, shape, start, stop)
