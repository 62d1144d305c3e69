"""Tensors that lie in several files: torch distributed checkpoints, whose `.metadata` says what is where.

That pickle is walked and never run, as all others: `state_dict_metadata` has the shape of each tensor,
`storage_data` says for each of its blocks in which file it lies, from which byte on, and which rows and
columns it fills.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast import arrays
from holdfast.arrays import Array
from holdfast.chunking.containers import DOUBTS
from holdfast.chunking.walk import Call, walk
from holdfast.format.tensors import MAX_DIMENSIONS, Tensor
from holdfast.verified_ranges import Ranges

_INDEX = ".metadata"
_MAX_INDEX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor, or the block of one that begins at `corner` of a whole of `shape`."""

    ranges: Ranges
    tensor: Tensor
    corner: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def read(self) -> Array:
        """The block as it is stored, in its shape. Raises Corrupt."""
        return arrays.as_stored(self.ranges.read(self.tensor.start, self.tensor.stop), self.tensor)


def is_index(path: str) -> bool:
    """Whether a file of a directory is the index of a distributed checkpoint."""
    return path.rpartition("/")[2] == _INDEX


def whole_shape(parts: list[Part]) -> tuple[int, ...]:
    """The shape of the tensor that the parts make up."""
    return parts[0].tensor.shape if parts[0].shape is None else parts[0].shape


def joined(parts: list[Part]) -> Array:
    """The whole tensor, as it is stored, of its blocks. Raises Corrupt."""
    if len(parts) == 1 and parts[0].shape is None:
        return parts[0].read()
    out = np.empty(whole_shape(parts), arrays.stored_type(parts[0].tensor.dtype))
    for part in parts:
        block = part.read()
        place = tuple(slice(at, at + n) for at, n in zip(part.corner, block.shape, strict=True))
        out[place] = block
    return out


def distributed(
    indexes: Mapping[str, Ranges], parts_of: Callable[[str], list[Part]]
) -> dict[str, list[Part]]:
    """The tensors of all distributed checkpoints in a directory, by the names in their models.

    A block that is missing or does not fit leaves its checkpoint to be read file by file."""
    found: dict[str, list[Part]] = {}
    for path, ranges in indexes.items():
        folder = path.removesuffix(_INDEX)
        try:
            blocks = _blocks(bytes(ranges.read(0, min(ranges.size_bytes, _MAX_INDEX_BYTES))))
            found |= {
                folder + name: parts for name, parts in _fill(blocks, folder, parts_of).items()
            }
        except DOUBTS:
            continue
    return found


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    shape: tuple[int, ...]
    corner: tuple[int, ...]
    path: str
    start: int
    stop: int


def _blocks(raw: bytes) -> list[_Block]:
    about = walk(raw).state
    shapes = {
        name: _numbers(of.state["size"])
        for name, of in about["state_dict_metadata"].items()
        if isinstance(of, Call) and isinstance(of.state, dict) and "size" in of.state
    }
    blocks = []
    for key, where in about["storage_data"].items():
        name, place = _fields(key)["fqn"], _fields(where)
        if name in shapes:
            corner = _fields(key).get("offset")
            shape = shapes[name]
            at = (0,) * len(shape) if corner is None else _numbers(corner)
            stop = place["offset"] + place["length"]
            blocks.append(_Block(name, shape, at, place["relative_path"], place["offset"], stop))
    return blocks


def _fields(call: Any) -> dict[str, Any]:
    """The attributes of an object that the pickle would make. (Frozen ones have slots in a pair.)"""
    state = call.state[1] if isinstance(call.state, tuple) else call.state
    return dict(state)


def _numbers(size: Any) -> tuple[int, ...]:
    numbers = tuple(size.arguments[0])
    if len(numbers) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a shape that is none")
    return numbers


def _fill(
    blocks: list[_Block], folder: str, parts_of: Callable[[str], list[Part]]
) -> dict[str, list[Part]]:
    """Each block with the tensor that lies in its part of the file."""
    files = {path: parts_of(folder + path) for path in {block.path for block in blocks}}
    found: dict[str, list[Part]] = {}
    for block in blocks:
        [part] = [
            part
            for part in files[block.path]
            if block.start <= part.tensor.start and part.tensor.stop <= block.stop
        ]
        ends = zip(block.corner, part.tensor.shape, block.shape, strict=True)
        if any(at + size > whole for at, size, whole in ends):
            raise ValueError("a block lies outside its tensor")
        of = Part(part.ranges, part.tensor, block.corner, block.shape)
        found.setdefault(block.name, []).append(of)
    for parts in found.values():
        if sum(math.prod(part.tensor.shape) for part in parts) != math.prod(whole_shape(parts)):
            raise ValueError("the blocks do not make up their tensor")
    return found
