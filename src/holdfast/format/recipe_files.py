"""The files that one recipe rebuilds together: version 3. See docs/format/recipe.md.

The chunks of a bundle, in order, are a row of bytes, and each file is a stretch of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.digest import Digest

VERSION = 3
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Bundled:
    """File k has the sha256 `ids[32 * k : 32 * k + 32]`, in ascending order, and its bytes are the
    `sizes[k]` bytes of the row from byte `starts[k]` on."""

    ids: bytes
    starts: NDArray[np.uint64]
    sizes: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.sizes)

    def digests(self) -> Iterator[Digest]:
        for at in range(0, len(self.ids), 32):
            yield Digest.from_raw(self.ids[at : at + 32])

    def in_order(self) -> Iterator[Digest]:
        """The digests, by where the files begin."""
        for number in np.argsort(self.starts, kind="stable").tolist():
            yield Digest.from_raw(self.ids[32 * number : 32 * number + 32])

    def find(self, digest: Digest) -> tuple[int, int] | None:
        """(start, stop) of a file in the row, None if it is not among them."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.ids[32 * middle : 32 * middle + 32] < digest.raw:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self.ids[32 * low : 32 * low + 32] != digest.raw:
            return None
        start = int(self.starts[low])
        return start, start + int(self.sizes[low])


def bundled(files: Iterable[tuple[Digest, int, int]]) -> Bundled:
    """Of (digest, start, size) of each file."""
    rows = sorted((digest.raw, start, size) for digest, start, size in files)
    ids, starts, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    return Bundled(b"".join(ids), np.array(starts, "<u8"), np.array(sizes, "<u4"))


def check(files: Bundled, row_bytes: int) -> None:
    """ValueError unless each file is there once and lies in a row of so many bytes."""
    if not len(files.ids) == 32 * len(files.sizes) == 32 * len(files.starts):
        raise ValueError("its files have not one id, start and size each")
    ids = [files.ids[at : at + 32] for at in range(0, len(files.ids), 32)]
    if any(one >= other for one, other in pairwise(ids)):
        raise ValueError("its files are not in order, or one is there twice")
    if (files.sizes > MAX_FILE_BYTES).any() or (files.starts > row_bytes).any():
        raise ValueError("a file has a size or a start outside the limits")
    if (files.starts + files.sizes > row_bytes).any():
        raise ValueError("a file lies outside the chunks")


def pack_files(files: Bundled) -> dict[str, Any]:
    """The fields that version 3 has and version 2 has not."""
    return {
        "file_ids": files.ids,
        "file_starts": files.starts.tobytes(),
        "file_sizes": files.sizes.tobytes(),
    }


def unpack_files(body: dict[str, Any]) -> Bundled:
    """Raises KeyError, TypeError or ValueError."""
    starts = np.frombuffer(body["file_starts"], "<u8")
    return Bundled(bytes(body["file_ids"]), starts, np.frombuffer(body["file_sizes"], "<u4"))
