"""torch.save: a pickle that says which tensor is which part of which storage, and the storages.

The pickle is walked, never loaded (walk.py). Several tensors may share a storage; each storage is one
span, under the name of the first tensor in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from holdfast.chunking.contents import Doubt, Getter, Span
from holdfast.chunking.walk import Call, Global, Persistent, walk
from holdfast.format.tensors import MAX_NAME_BYTES, MAX_TENSORS, Tensor, element_bytes, extent

MAX_PICKLE_BYTES = 16 << 20
MAX_NODES = 5_000_000

Places = dict[str, tuple[int, int]]  # member: (start, stop)

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}  # fmt: skip
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "complex32": "C32", "complex64": "C64", "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip


class _View(NamedTuple):
    """A tensor as the pickle tells it."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensors(get: Getter, members: Places) -> tuple[list[Tensor], list[Span]]:
    """The tensors, and a span for each storage that they lie in."""
    [pickle] = [name for name in members if name.endswith("/data.pkl")]
    home = pickle.removesuffix("data.pkl")
    start, stop = members[pickle]
    if stop - start > MAX_PICKLE_BYTES:
        raise Doubt("its pickle is too long")
    big = _is_big_endian(get, members, home)
    found: list[Tensor] = []
    spans: dict[str, Span] = {}
    for name, view in _named_views(walk(bytes(get(start, stop - start)))):
        place = members.get(f"{home}data/{view.key}")
        tensor = _tensor(name, view, place, big) if place else None
        if 0 in view.shape:  # an empty storage is no member with bytes
            found.append(Tensor(name, view.dtype, view.shape, 0, 0))
        elif place and tensor:
            found.append(tensor)
            spans.setdefault(view.key, Span(*place, name, tensor.dtype))
    return found, list(spans.values())


def _is_big_endian(get: Getter, members: Places, home: str) -> bool:
    place = members.get(f"{home}byteorder")
    return place is not None and bytes(get(place[0], min(3, place[1] - place[0]))) == b"big"


def _tensor(name: str, view: _View, place: tuple[int, int], big: bool) -> Tensor | None:
    width = element_bytes(view.dtype)
    in_order, step = [], 1
    for size in reversed(view.shape):
        in_order.append(step)
        step *= size
    plain = step <= 1 or _same_strides(view.shape, view.strides, in_order[::-1])
    dtype = f">{view.dtype}" if big and width > 1 else view.dtype
    start = place[0] + width * view.offset
    strides = None if plain else view.strides
    stop = start + extent(Tensor(name, dtype, view.shape, 0, 0, strides))
    inside = place[0] <= start <= stop <= place[1]
    return Tensor(name, dtype, view.shape, start, stop, strides) if inside else None


def _same_strides(shape: tuple[int, ...], one: tuple[int, ...], other: list[int]) -> bool:
    return all(size == 1 or a == b for size, a, b in zip(shape, one, other, strict=True))


def _view(call: Call) -> _View | None:
    """The tensor that a call would rebuild, if it is one that torch makes of a storage."""
    if not isinstance(call.what, Global) or call.what.module != "torch._utils":
        return None
    if call.what.name not in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_tensor"):
        return None
    storage, offset, shape, strides, *rest = call.arguments
    if not isinstance(storage, Persistent):
        return None
    kind, of, key, *_ = storage.id
    dtype = _dtype(of, rest[2] if call.what.name.endswith("v3") else None)
    whole = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
    if kind != "storage" or not dtype or not isinstance(key, str) or not whole:
        return None
    if len(shape) != len(strides):
        return None
    return _View(key, dtype, offset, tuple(shape), tuple(strides))


def _dtype(storage: Any, dtype: Any) -> str | None:
    for what, names in ((dtype, _DTYPES), (storage, _STORAGES)):
        if isinstance(what, Global) and what.name in names:
            return names[what.name]
    return None


def _named_views(root: Any) -> Iterator[tuple[str, _View]]:
    """Every tensor below `root` with its path, as `optimizer.state.0.exp_avg`; each object once."""
    stack: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()
    names: set[str] = set()
    nodes = 0
    while stack:
        path, value = stack.pop()
        nodes += 1
        if nodes > MAX_NODES or len(names) > MAX_TENSORS:
            raise Doubt("its pickle holds too much")
        if isinstance(value, (dict, list, tuple, Call)):
            if id(value) in seen:
                continue
            seen.add(id(value))
        view = _view(value) if isinstance(value, Call) else None
        if view is None:
            stack += reversed(list(_below(path, value)))
        elif path not in names and len(path.encode()) <= MAX_NAME_BYTES:
            names.add(path)
            yield path, view


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if len(path) > MAX_NAME_BYTES:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) in (str, int):
                yield (f"{path}.{key}" if path else str(key)), item
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield (f"{path}.{number}" if path else str(number)), item
    elif isinstance(value, Call):
        # A parameter, a module, an ordered map: what it is made of bears its name.
        for item in (*value.arguments, value.items, value.state):
            if isinstance(item, (dict, list, tuple, Call)):
                yield path, item
