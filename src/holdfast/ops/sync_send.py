"""Files from one store to another, verified on the way in and never faster than allowed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator

from holdfast.backend.base import Backend, Staged
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, NameNotFound
from holdfast.format import layout, recipe
from holdfast.verified import again

Progress = Callable[[int, int], None]  # (bytes sent, all)


class Meter:
    """Counts what was sent, says so, and waits where more than `limit_bytes` a second would go by.

    For any number of threads."""

    def __init__(self, total: int, limit_bytes: int | None, progress: Progress | None) -> None:
        self.sent = 0
        self._total = total
        self._limit = limit_bytes
        self._progress = progress
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def add(self, count: int) -> None:
        """So many bytes go by; returns when they may."""
        with self._lock:
            self.sent += count
            if self._progress:
                self._progress(self.sent, max(self._total, self.sent))
            if self._limit is None:
                return
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._limit
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


def send(
    source: Backend, target: Backend, name: str, meter: Meter, under: str | None = None
) -> None:
    """Copy a blob, pack, segment or recipe, `under` another name if one is given. Raises Corrupt if the
    source's is damaged or missing; then the target has nothing new."""
    if name.startswith(layout.RECIPES):
        again(lambda: _recipe(source, target, name, meter))
    else:
        again(lambda: _file(source, target, name, meter, under or name))


def _file(source: Backend, target: Backend, name: str, meter: Meter, under: str) -> None:
    """A file that is named by its sha256."""
    staged = target.stage()
    try:
        sha, size = hashlib.sha256(), 0
        for piece in _pieces(source, name):
            meter.add(len(piece))
            sha.update(piece)
            size += len(piece)
            staged.write(piece)
        _check(source, name, sha.hexdigest())
        _give_name(target, staged, under, size)
    finally:
        staged.abort()


def _pieces(source: Backend, name: str) -> Iterator[bytes]:
    try:
        yield from source.chunks(name)
    except NameNotFound as error:
        raise Corrupt(f"{source.url}/{name} is missing", place=name) from error


def _check(source: Backend, name: str, found: str) -> None:
    wanted = name.rpartition("/")[2].removesuffix(".seg")
    if found != wanted:
        raise DigestMismatch(
            f"{source.url}/{name} is damaged: its bytes have the digest sha256:{found}",
            place=name,
            expected=f"sha256:{wanted}",
            found=f"sha256:{found}",
        )


def _give_name(target: Backend, staged: Staged, name: str, size: int) -> None:
    """A file of that name and another size is damaged, and these are its bytes."""
    if not staged.commit(name) and target.stat(name).size_bytes != size:
        staged.replace(name)


def _recipe(source: Backend, target: Backend, name: str, meter: Meter) -> None:
    """A recipe, whose packs and blobs are in the target by now."""
    try:
        data = source.get(name)
    except NameNotFound as error:
        raise Corrupt(f"{source.url}/{name} is missing", place=name) from error
    made_of = recipe.decode(data, place=name)
    if made_of.artifact != Digest(name.rpartition("/")[2].partition(".")[0]):
        raise Corrupt(f"{name} is the recipe of another artifact", place=name)
    meter.add(len(data))
    staged = target.stage()
    try:
        staged.write(data)
        _give_name(target, staged, name, len(data))
    finally:
        staged.abort()
