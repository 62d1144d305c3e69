"""What a parser found in a checkpoint, checked so that it can be trusted, and what parsers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.format.tensors import Tensor, check

Getter = Callable[[int, int], Any]  # (offset, length) -> exactly those bytes, in any buffer

MIN_TENSOR_BYTES = (
    4096  # a smaller one is not cut out: a chunk of its own would cost more than it saves
)


class Doubt(ValueError):
    """The file is not quite what it seemed. It is then cut by its contents: that is always right."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` of the artifact are numbers of type `dtype`; `name` is that of the first
    tensor in them, and pairs them with the same tensor of another version."""

    start: int
    stop: int
    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Contents:
    """`kind` of the container ('' if none is known), its tensors, and the spans to cut out, in order."""

    kind: str = ""
    tensors: tuple[Tensor, ...] = ()
    spans: tuple[Span, ...] = ()


def contents(
    kind: str, tensors: Sequence[Tensor], spans: Iterable[Span], size_bytes: int
) -> Contents:
    """Raises Doubt (or ValueError) if something lies outside the file or two spans overlap."""
    for tensor in tensors:
        check(tensor)
        if tensor.stop > size_bytes:
            raise Doubt(f"the tensor {tensor.name!r} ends behind the file")
    kept = sorted((s for s in spans if s.stop - s.start >= MIN_TENSOR_BYTES), key=_start)
    end = 0
    for span in kept:
        if span.start < end or span.stop > size_bytes:
            raise Doubt(f"{span.name!r} overlaps another or ends behind the file")
        end = span.stop
    return Contents(kind, tuple(tensors), tuple(kept))


def _start(span: Span) -> int:
    return span.start


def of_tensor(tensor: Tensor) -> Span:
    """The span of a tensor that shares its bytes with no other."""
    return Span(tensor.start, tensor.stop, tensor.name, tensor.dtype)


class Reader:
    """A small header read front to back, through a window; Doubt where it ends or grows too long."""

    def __init__(self, get: Getter, at: int, stop: int) -> None:
        self._get, self.at, self._stop = get, at, stop
        self._window, self._from = b"", at

    def take(self, length: int) -> bytes:
        if not 0 <= length <= self._stop - self.at:
            raise Doubt(f"a header does not end before byte {self._stop}")
        begin = self.at - self._from
        if begin + length > len(self._window):
            want = min(max(length, 1 << 16), self._stop - self.at)
            self._window, self._from, begin = bytes(self._get(self.at, want)), self.at, 0
        self.at += length
        return self._window[begin : begin + length]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")
