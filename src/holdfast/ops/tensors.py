"""The tensors of a checkpoint in the store: a table of all, and each read by itself.

The table comes from the recipe, where ingest wrote it down; else from the headers of the file. A directory
of shards, and a torch distributed checkpoint, are one checkpoint: their tensors come under their names
in the model, wherever they lie.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from holdfast import arrays, chunking, verified_artifact
from holdfast.arrays import Array
from holdfast.bundles import Bundle
from holdfast.digest import Digest
from holdfast.errors import InvalidValue, NotFound
from holdfast.format.tensors import Tensor, element_bytes
from holdfast.ops import artifacts, sharded
from holdfast.ops.sharded import Part
from holdfast.repository import Repository
from holdfast.verified_ranges import Ranges


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `dtype` as safetensors names it, with `>` in front if it is stored big-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


class Tensors:
    """The tensors of one checkpoint, read when asked for: a context manager, used as `safe_open` is.

    `keys()` are the names, `info(name)` says type and shape. What is read is verified, and read again each
    time. bfloat16 and floats of 8 bits come in the types of `ml_dtypes` if that is installed, else as
    unsigned integers of the same bits; `dtype="float32"` gives their values either way."""

    def __init__(self, parts: Mapping[str, list[Part]]) -> None:
        self._parts = dict(parts)

    def keys(self) -> list[str]:
        """The names, in the order of the file."""
        return list(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def info(self, name: str) -> TensorInfo:
        """Type, shape and stored bytes of a tensor. Raises NotFound."""
        parts = self.parts(name)
        shape = sharded.whole_shape(parts)
        size = sum(part.tensor.stop - part.tensor.start for part in parts)
        return TensorInfo(name, parts[0].tensor.dtype, shape, size)

    def get_tensor(self, name: str, *, dtype: str | None = None) -> Array:
        """A tensor as numpy array of its shape, in memory of its own; nothing else of the file is read but
        the pieces that its edges share. `dtype` converts: `float32` takes every type there is.

        A packed type of GGUF comes as its bytes, in one row. Raises NotFound, Corrupt."""
        return self._typed(sharded.joined(self.parts(name)), name, dtype)

    __getitem__ = get_tensor

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor to be indexed: only the rows that an index asks for are read. Raises NotFound."""
        return TensorSlice(self, self.info(name))

    def torch(self, name: str) -> Any:
        """A tensor as torch has it, of the same type, on the CPU. Raises NotFound, Corrupt."""
        parts = self.parts(name)
        return arrays.to_torch(sharded.joined(parts), parts[0].tensor.dtype)

    def parts(self, name: str) -> list[Part]:
        """Where a tensor lies. Raises NotFound."""
        try:
            return self._parts[name]
        except KeyError:
            from difflib import get_close_matches

            near = get_close_matches(name, self._parts, 3)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise NotFound(f"the checkpoint has no tensor {name!r}{hint}", tensor=name) from None

    def rows(self, name: str, first: int, stop: int) -> Array:
        """Rows `first` to `stop` of the first dimension, typed as by `get_tensor`. Raises NotFound."""
        parts = self.parts(name)
        tensor = parts[0].tensor
        width = element_bytes(tensor.dtype)
        if len(parts) > 1 or tensor.strides is not None or not width or not tensor.shape:
            return self._typed(sharded.joined(parts)[first:stop], name, None)
        row = width * math.prod(tensor.shape[1:])
        begin, end = tensor.start + row * first, tensor.start + row * max(first, stop)
        of = Tensor(name, tensor.dtype, (max(0, stop - first), *tensor.shape[1:]), begin, end)
        raw = parts[0].ranges.read(begin, end)
        return self._typed(arrays.as_stored(raw, of), name, None)

    def _typed(self, stored: Array, name: str, dtype: str | None) -> Array:
        kind = self._parts[name][0].tensor.dtype
        if dtype is None:
            return arrays.native(stored, kind)
        if not element_bytes(kind):
            raise InvalidValue(
                f"{name!r} is of the packed type {kind}: it has no numbers to convert"
            )
        return arrays.floats(stored, kind).astype(np.dtype(dtype))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass  # nothing is held open

    def __repr__(self) -> str:
        return f"<Tensors: {len(self)}>"


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A tensor that is read where it is indexed."""

    tensors: Tensors
    about: TensorInfo

    def get_shape(self) -> list[int]:
        return list(self.about.shape)

    def get_dtype(self) -> str:
        return self.about.dtype

    def __getitem__(self, index: Any) -> Array:
        """As on a numpy array. Of the first dimension only the rows between the ends are read."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if not self.about.shape or not isinstance(first, (int, slice, np.integer)):
            whole: Array = self.tensors.get_tensor(self.about.name)[index]
            return whole
        rows = range(self.about.shape[0])[first]  # IndexError where numpy has one
        chosen = rows if isinstance(rows, range) else range(rows, rows + 1)
        low, high = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
        read = self.tensors.rows(self.about.name, low, high)
        inner: Any = slice(None) if chosen.step == 1 else [row - low for row in chosen]
        part = read[inner] if isinstance(rows, range) else read[0]
        if not rest:
            return np.asarray(part)
        return np.asarray(part[(slice(None), *rest) if isinstance(rows, range) else tuple(rest)])


def open_tensors(repository: Repository, digest: Digest, kind: str) -> Tensors:
    """The tensors of an artifact. Raises ArtifactNotFound, InvalidValue if it holds none, Corrupt."""
    if kind != "directory":
        parts = _of_file(repository, digest)
        if not parts:
            raise InvalidValue(
                f"{digest} is no checkpoint that is understood: safetensors, torch, npz, npy and GGUF "
                "are; read_artifact gives its bytes",
                digest=str(digest),
            )
        return Tensors({part.tensor.name: [part] for part in parts})
    entries = artifacts.directory_entries(repository, digest)
    files = {e.path: Digest.from_raw(e.digest) for e in entries if e.kind == "file" and e.digest}
    bundle = Bundle.of(repository.backend, digest)
    found = sharded.distributed(
        {p: _ranges(repository, of, bundle) for p, of in files.items() if sharded.is_index(p)},
        lambda path: _of_file(repository, files[path], bundle) if path in files else [],
    )
    if not found:
        found = _named({path: _of_file(repository, of, bundle) for path, of in files.items()})
    if not found:
        raise InvalidValue(f"no file of the directory {digest} holds tensors", digest=str(digest))
    return Tensors(found)


def _ranges(repository: Repository, digest: Digest, bundle: Bundle | None = None) -> Ranges:
    if bundle and digest in bundle:
        read = bundle.read
        return Ranges(repository.backend, digest, None, whole=lambda: read(digest))
    return verified_artifact.ranges(repository.backend, digest)


def _of_file(repository: Repository, digest: Digest, bundle: Bundle | None = None) -> list[Part]:
    if bundle is None:
        artifacts.by_digest(repository, digest)
    ranges = _ranges(repository, digest, bundle)
    table = ranges.recipe.tensors if ranges.recipe else ()
    if not table:
        table = chunking.look(Header(ranges).get, ranges.size_bytes).tensors
    return [Part(ranges, tensor) for tensor in table]


class Header:
    """Many small reads of one file: the piece that was read last is kept."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._held: tuple[int, Any] = (0, b"")

    def get(self, offset: int, length: int) -> Any:
        """The bytes from `offset` on, fewer at the end."""
        start, data = self._held
        if not start <= offset <= offset + length <= start + len(data):
            stop = min(offset + max(length, 65_536), self._ranges.size_bytes)
            start, data = offset, self._ranges.read(offset, stop)
            self._held = start, data
        return memoryview(data)[offset - start : offset - start + length]


def _named(files: dict[str, list[Part]]) -> dict[str, list[Part]]:
    """The tensors of several files; a name that occurs twice bears the path of its file in front."""
    seen = Counter(part.tensor.name for parts in files.values() for part in parts)
    return {
        part.tensor.name if seen[part.tensor.name] == 1 else f"{path}/{part.tensor.name}": [part]
        for path, parts in files.items()
        for part in parts
    }
