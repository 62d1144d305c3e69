"""What changed between two checkpoints, tensor by tensor, in bounded memory.

Where both recipes list the same chunks, the bytes are equal and are not read. Else both tensors are read a
window at a time, and compared as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from holdfast import arrays
from holdfast.arrays import Array
from holdfast.format.tensors import Tensor, element_bytes
from holdfast.ops import sharded
from holdfast.ops.sharded import Part
from holdfast.ops.tensors import TensorInfo, Tensors
from holdfast.verified_ranges import same_bytes

WINDOW_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor in two checkpoints. `status` is added, removed, equal, changed, or reshaped if type or
    shape differ.

    Of changed ones: the largest and the mean absolute difference, the norm of the difference over the
    norm of the old tensor (inf if that is 0), and the share of elements whose bits differ. A difference to
    or from NaN counts as a change and is left out of the three others. None where there is nothing to
    subtract."""

    name: str
    status: str
    before: TensorInfo | None
    after: TensorInfo | None
    max_abs: float | None = None
    mean_abs: float | None = None
    relative_l2: float | None = None
    changed_fraction: float | None = None


def diff(one: Tensors, other: Tensors) -> Iterator[TensorChange]:
    """Every tensor of both, in the order of the first, then those that are new. Raises Corrupt."""
    for name in one:
        if name not in other:
            yield TensorChange(name, "removed", one.info(name), None)
        else:
            yield _changed(name, one, other)
    for name in other:
        if name not in one:
            yield TensorChange(name, "added", None, other.info(name))


def _changed(name: str, one: Tensors, other: Tensors) -> TensorChange:
    before, after = one.info(name), other.info(name)
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        return TensorChange(name, "reshaped", before, after)
    total = _Total()
    for old, new in _windows(one.parts(name), other.parts(name)):
        total.add(old, new, before.dtype)
    if not total.changed:
        return TensorChange(name, "equal", before, after, 0.0, 0.0, 0.0, 0.0)
    share = total.changed / max(1, total.elements)
    if not element_bytes(before.dtype):
        return TensorChange(name, "changed", before, after, changed_fraction=share)
    return TensorChange(
        name, "changed", before, after, total.max_abs, total.mean_abs, total.relative_l2, share
    )


class _Total:
    """Sums over the windows of a tensor."""

    def __init__(self) -> None:
        self.elements = self.changed = self._numbers = 0
        self.max_abs = self._sum = self._squares = self._old = 0.0

    def add(self, old: Array, new: Array | None, dtype: str) -> None:
        """A window; None for `new` if it is known to be equal."""
        self.elements += old.size
        if new is not None:
            differ = _bits(old) != _bits(new)
            self.changed += int(np.count_nonzero(differ))
        if not element_bytes(dtype):
            return
        before = _wide(arrays.floats(old, dtype))
        finite = np.isfinite(before)
        self._old += float(np.sum(np.square(np.abs(before[finite]))))
        self._numbers += before.size
        if new is not None:
            after = _wide(arrays.floats(new, dtype))
            finite &= np.isfinite(after)
            off = np.abs(after[finite] - before[finite])
            self.max_abs = max(self.max_abs, float(off.max(initial=0.0)))
            self._sum += float(off.sum())
            self._squares += float(np.square(off).sum())

    @property
    def mean_abs(self) -> float:
        return self._sum / max(1, self._numbers)

    @property
    def relative_l2(self) -> float:
        if not self._squares:
            return 0.0
        return math.sqrt(self._squares / self._old) if self._old else math.inf


def _bits(values: Array) -> Array:
    """The elements as rows of bytes or as unsigned numbers: equal if and only if all bits are."""
    flat = np.ascontiguousarray(values).reshape(-1)
    width = flat.dtype.itemsize
    return flat.view(f"u{width}") if width <= 8 else flat.view("V16")


def _wide(values: Array) -> Array:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64).reshape(-1)


def _windows(one: list[Part], other: list[Part]) -> Iterator[tuple[Array, Array | None]]:
    """Both tensors in parts, one beside the other; the second is None where it is equal to the first."""
    if len(one) == len(other) == 1 and one[0].tensor.strides == other[0].tensor.strides is None:
        yield from _flat(one[0], other[0])
        return
    # With strides or in several blocks: each whole in memory.
    yield sharded.joined(one).reshape(-1), sharded.joined(other).reshape(-1)


def _flat(one: Part, other: Part) -> Iterator[tuple[Array, Array | None]]:
    first, second = one.tensor, other.tensor
    # (Of a packed type the padding behind it may differ: equal shapes have equal bytes before it.)
    size = min(first.stop - first.start, second.stop - second.start)
    if same_bytes(one.ranges, first.start, other.ranges, second.start, size):
        return
    for at in range(0, size, WINDOW_BYTES):
        length = min(WINDOW_BYTES, size - at)
        a, b = first.start + at, second.start + at
        same = same_bytes(one.ranges, a, other.ranges, b, length)
        old = _row(one, a, length)
        yield old, None if same else _row(other, b, length)


def _row(part: Part, start: int, length: int) -> Array:
    raw = part.ranges.read(start, start + length)
    width = element_bytes(part.tensor.dtype) or 1
    flat = Tensor("", part.tensor.dtype, (length // width,), start, start + length)
    return arrays.as_stored(raw, flat)
