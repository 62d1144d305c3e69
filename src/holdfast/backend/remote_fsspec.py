"""A client over any fsspec file system, with its caches, its retries and its patience switched off."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

from holdfast.backend.base import Stat
from holdfast.errors import NameExists, NotAStore

FRESH = {"use_listings_cache": False, "skip_instance_cache": True}
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class FsspecClient:
    """`root` is `bucket/prefix`. `exclusive` says that the file system makes `mode="create"` a condition."""

    def __init__(self, fs: Any, root: str, exclusive: bool, seconds: float) -> None:
        self._fs = fs
        self._root = root.strip("/")
        self._exclusive = exclusive
        self._seconds = seconds
        self._is_async = bool(getattr(fs, "async_impl", False))
        self._pool = None if self._is_async else ThreadPoolExecutor(16)
        fs.retries = 1  # s3fs and gcsfs: we retry ourselves
        # A web page lists links, in which some characters are written as %20; all others list names.
        self._read = unquote if "http" in fs.protocol else str

    def get(self, name: str, start: int = 0, length: int | None = None) -> tuple[bytes, int | None]:
        # With a start, s3fs asks once; without, it asks for the size first.
        stop = None if length is None else start + length
        data = self._do("cat_file", self._path(name), start=start, end=stop)
        return bytes(data), None

    def head(self, name: str) -> Stat:
        return _stat(name, self._do("info", self._path(name)))

    def create(self, name: str, data: bytes) -> None:
        if self._exclusive:
            self._do("pipe_file", self._path(name), data, mode="create")
            return
        # For one writer only: nothing holds the name between the two steps.
        if self._do("exists", self._path(name)):
            raise NameExists(f"{name} is taken already", name=name)
        self.put(name, data)

    def put(self, name: str, data: bytes) -> None:
        self._ensure_parent(name)
        self._do("pipe_file", self._path(name), data)

    def upload(self, name: str, path: str) -> None:
        self._ensure_parent(name)
        self._do("put_file", path, self._path(name), patience=60)

    def delete(self, name: str) -> None:
        self._do("rm_file", self._path(name))

    def walk(self, prefix: str) -> Iterator[Stat]:
        top = self._path(prefix)
        try:
            found = self._do("find", top, detail=True, patience=10)
        except FileNotFoundError:
            return
        for path, about in found.items():
            if about.get("type") != "directory":
                yield _stat(self._name(path), about)

    def under(self, prefix: str) -> tuple[list[str], list[str]]:
        top = self._path(prefix).rstrip("/")
        try:
            found = self._do("ls", top, detail=True, patience=10)
        except FileNotFoundError:
            return [], []
        names: tuple[list[str], list[str]] = ([], [])
        for about in found:
            path = about["name"].rstrip("/")
            if path.endswith(top):  # some list the folder itself
                continue
            names[about["type"] == "directory"].append(self._read(path.rpartition("/")[2]))
        return names

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _name(self, path: str) -> str:
        plain = str(self._fs._strip_protocol(path)).lstrip("/")
        return self._read(plain[len(self._root.lstrip("/")) + 1 :])

    def _ensure_parent(self, name: str) -> None:
        """File systems with real directories want them made; object stores have none."""
        if not self._is_async:
            parent = self._path(name).rpartition("/")[0]
            self._do("makedirs", parent, exist_ok=True)

    def _do(self, method: str, *arguments: Any, patience: int = 1, **options: Any) -> Any:
        """Call the file system, and stop waiting after our own time: its own may be endless."""
        seconds = self._seconds * patience
        if self._pool is not None:
            return self._pool.submit(getattr(self._fs, method), *arguments, **options).result(
                seconds
            )
        call: Callable[..., Any] = getattr(self._fs, f"_{method}")
        future = asyncio.run_coroutine_threadsafe(_awaited(call, arguments, options), self._fs.loop)
        try:
            return future.result(seconds)
        finally:
            future.cancel()


async def _awaited(call: Callable[..., Any], arguments: Any, options: Any) -> Any:
    answer = call(*arguments, **options)
    return await answer if inspect.isawaitable(answer) else answer


def _stat(name: str, about: dict[str, Any]) -> Stat:
    when = next((about[key] for key in _TIMES if about.get(key)), None)
    return Stat(name, int(about["size"] or 0), _nanoseconds(when))


def _nanoseconds(when: Any) -> int:
    if when is None:
        return 0
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        seen = when if when.tzinfo else when.replace(tzinfo=UTC)
        return int(seen.timestamp() * 1e6) * 1000
    return int(float(when) * 1e9)


def require(scheme: str, extra: str | None) -> None:
    """Raise NotAStore unless fsspec is here and knows the protocol; nothing is imported for it yet."""
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        raise _absent(scheme, extra) from None
    if scheme not in known_implementations and scheme not in registry:
        raise NotAStore(
            f"{scheme}:// is not a protocol that Holdfast or fsspec knows", url=f"{scheme}://"
        )
    needed = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
    if extra is not None and find_spec(needed) is None:
        raise _absent(scheme, extra)


def _absent(scheme: str, extra: str | None) -> NotAStore:
    package = f"holdfast[{extra}]" if extra else "fsspec"
    return NotAStore(
        f"{scheme}:// needs packages that are not installed: pip install '{package}'",
        url=f"{scheme}://",
    )


def file_system(scheme: str, options: dict[str, Any]) -> Any:
    """fsspec's file system of a protocol, fresh and without caches. Raises NotAStore."""
    import fsspec

    try:
        if scheme == "gs":
            # The class that gcsfs registers first asks Google what kind of bucket it is; other
            # servers do not know that question, and it waits 48 s for their answer.
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem(**FRESH, **options)
        return fsspec.filesystem(scheme, **FRESH, **options)
    except ImportError as error:
        raise NotAStore(
            f"{scheme}:// needs a package that is not installed: {error.name or error}",
            url=f"{scheme}://",
        ) from error
