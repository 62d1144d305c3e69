"""What earlier syncs found equal, kept in the user's cache: so that nothing new needs nothing but listings.

Entries never change. So if the newest entry of a chain is, on both sides, the one that was held against the
other when they were found equal, they are equal still. Deleting the file costs time alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.format import frame, packing
from holdfast.ops.sync_listing import Tip

_KIND = b"E"
_VERSION = 1
Row = tuple[
    Any, ...
]  # number; size and time in the source, in the target; has it all that it needs?


class Memory:
    """Of one source, one target and one choice of files."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        if path is not None:
            with suppress(OSError, HoldfastError, ValueError, TypeError):
                _, body = frame.unwrap(
                    _KIND, path.read_bytes(), place=str(path), max_version=_VERSION
                )
                rows = packing.unpack(body, place=str(path))
                self._rows = {prefix: tuple(row) for prefix, row in rows.items()}

    @classmethod
    def of(cls, *what: str) -> Memory:
        """The memory for these ids, URLs and choices; an empty one that keeps nothing without a cache."""
        folder = os.environ.get("HOLDFAST_CACHE_DIR")
        if not folder:
            from platformdirs import user_cache_dir

            folder = user_cache_dir("holdfast", appauthor=False)
        name = hashlib.sha256("\0".join(what).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return cls(Path(folder) / "sync" / name)

    def equal_up_to(self, prefix: str, source: Tip, target: Tip) -> int:
        """Up to which entry the chains are known to be equal; -1 if nothing is known."""
        row = self._rows.get(prefix)
        if row is None or min(source.number, target.number) < row[0]:
            return -1
        for tip, size, modified in ((source, row[1], row[2]), (target, row[3], row[4])):
            if tip.number == row[0] and (tip.size_bytes, tip.modified) != (size, modified):
                return -1  # another store, under the same address
        return int(row[0])

    def is_complete(self, prefix: str, number: int) -> bool:
        """Did the target have all that the state after entry `number` needs?"""
        row = self._rows.get(prefix)
        return row is not None and row[0] == number and row[5]

    def learn(self, prefix: str, source: Tip, target: Tip, complete: bool) -> None:
        """Both chains are equal up to these entries, which have the same number."""
        self._rows[prefix] = (
            source.number, source.size_bytes, source.modified, target.size_bytes, target.modified, complete,
        )  # fmt: skip

    def is_settled(self, prefix: str, source: Tip, target: Tip) -> bool:
        """Were chains that differ, as they stand, found to need nothing?"""
        return self._rows.get(f"~{prefix}") == (*_stand(source), *_stand(target))

    def settle(self, prefix: str, source: Tip, target: Tip) -> None:
        self._rows[f"~{prefix}"] = (*_stand(source), *_stand(target))

    def forget(self) -> None:
        self._rows.clear()

    def keep(self) -> None:
        """For the next sync. A disk that is full is no reason for this one to fail."""
        if self._path is None:
            return
        data = frame.wrap(
            _KIND, _VERSION, packing.pack({k: list(r) for k, r in self._rows.items()})
        )
        temporary = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, self._path)


def _stand(tip: Tip) -> tuple[int, int, int]:
    return tip.number, tip.size_bytes, tip.modified
