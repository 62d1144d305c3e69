"""`holdfast://` for fsspec: every address as a path, read-only and verified.

    pandas.read_csv("holdfast://run:data.csv", storage_options={"store": "s3://bucket/lab"})
    fsspec.open("holdfast://prod/resnet::s3://bucket/lab")

A run is a folder `RUN:` of its artifacts, and an artifact that is a directory is a folder too. The
store is `store`, else the rest of a chained URL, else $HOLDFAST_STORE. See docs/how-to/fsspec.md.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

import holdfast
from holdfast.errors import Ambiguous, InvalidValue, NotFound
from holdfast.format.address import split_version

_MAGIC = set("*?[")
Names = Mapping[
    str, tuple[int | None, str]
]  # (size, digest) of each file by path; None for a folder


@dataclass(frozen=True, slots=True)
class _Folder:
    """What lies below a path: files and empty folders by the rest of their paths."""

    names: Names


class HoldfastFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """See the module. `at` is a snapshot; other options are those of the store's own storage."""

    protocol = "holdfast"
    root_marker = ""

    def __init__(
        self,
        store: str | None = None,
        at: str | None = None,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._url = store or _chained(fo, target_protocol) or os.environ.get("HOLDFAST_STORE")
        self._at = at
        self._options = dict(target_options or options.get("storage_options") or {})
        self._entries = lru_cache(maxsize=64)(self._read_entries)

    @cached_property
    def store(self) -> holdfast.ExperimentStore:
        """The store, opened when it is first needed. Raises InvalidValue when none was named."""
        if not self._url:
            raise InvalidValue(
                'which store? Give storage_options={"store": URL}, set HOLDFAST_STORE, or write '
                "holdfast://RUN:KEY::URL"
            )
        found = self._options or None
        return holdfast.open(self._url, read_only=True, at=self._at, storage_options=found)

    # What fsspec asks.

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size, type and sha256 of a file; name and type of a folder."""
        path = self._strip_protocol(path)
        found = self._look(path) if path else _Folder({})
        if isinstance(found, _Folder):
            return {"name": path, "size": 0, "type": "directory"}
        return _about(path, found.size_bytes, found.digest.hex)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What lies in a folder: the runs at the top, the artifacts in a run."""
        path = self._strip_protocol(path)
        if not path:
            runs = [f"{run.run_id}:" for run in self.store.runs()]
            found = [{"name": run, "size": 0, "type": "directory"} for run in runs]
        else:
            looked = self._look(path)
            found = (
                list(_children(path, looked.names))
                if isinstance(looked, _Folder)
                else [_about(path, looked.size_bytes, looked.digest.hex)]
            )
        return found if detail else [about["name"] for about in found]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            _refuse(path)
        return self._file(path).open()

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **more: Any
    ) -> bytes:
        """All bytes, or a range of them."""
        if start is None and end is None:
            return self._file(path).read()
        found: bytes = super().cat_file(path, start, end, **more)
        return found

    def get_file(self, rpath: str, lpath: Any, callback: Any = None, **_: Any) -> None:
        """Write a file to the local disk, verified before it has its name; make a folder."""
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        if hasattr(lpath, "write"):
            lpath.write(self._file(rpath).read())
            return
        os.makedirs(os.path.dirname(lpath) or ".", exist_ok=True)
        self._file(rpath).write(Path(lpath), overwrite=True)

    def ukey(self, path: str) -> str:
        """The sha256: it changes when the content does."""
        return str(self.info(path).get("sha256"))

    def glob(self, path: str, maxdepth: int | None = None, **more: Any) -> Any:
        """As fsspec does it; patterns right behind the `:` stay within the run."""
        stripped = self._strip_protocol(path)
        scope, colon, key = stripped.partition(":")
        plain = next((at for at, char in enumerate(key) if char in _MAGIC), None)
        if not colon or plain is None or "/" in key[:plain] or _MAGIC & set(scope):
            return super().glob(path, maxdepth=maxdepth, **more)
        depth = None if "**" in key else key.count("/") + 1
        found = self.find(f"{scope}:", maxdepth=maxdepth or depth, withdirs=True, detail=True)
        wanted, front = re.compile(glob_translate(key)), len(scope) + 1
        chosen = {name: about for name, about in found.items() if wanted.match(name[front:])}
        return chosen if more.get("detail") else sorted(chosen)

    @classmethod
    def _parent(cls, path: str) -> str:
        scope, _, key = cls._strip_protocol(path).partition(":")
        return f"{scope}:{key.rpartition('/')[0]}" if key else ""

    # It only reads.

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        _refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        _refuse(path)

    def rm_file(self, path: str) -> None:
        _refuse(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        _refuse(path)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        _refuse(path2)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        _refuse(path)

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        _refuse(rpath)

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        _refuse(path)

    # From a path to what is there.

    def _file(self, path: str) -> holdfast.StoredArtifact:
        found = self._look(self._strip_protocol(path))
        if isinstance(found, _Folder):
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        return found

    def _look(self, path: str) -> holdfast.StoredArtifact | _Folder:
        """The file at a path, or what lies below it. Raises FileNotFoundError."""
        try:
            return self._found(path.removesuffix(":"))
        except Ambiguous:
            raise
        except (NotFound, InvalidValue) as error:
            raise FileNotFoundError(errno.ENOENT, error.message, path) from error

    def _found(self, path: str) -> holdfast.StoredArtifact | _Folder:
        scope, colon, key = path.partition(":")
        if not colon and ":" not in self.store.resolve(path):
            return _Folder(_keys(self.store, path))
        try:
            return self._opened(self.store.artifact(path))
        except NotFound:
            below = self._below(scope, key) if key else {}
            if below:
                return _Folder(below)
            raise

    def _opened(self, found: holdfast.StoredArtifact) -> holdfast.StoredArtifact | _Folder:
        return _Folder(self._entries(found)) if found.kind == "directory" else found

    def _read_entries(self, found: holdfast.StoredArtifact) -> Names:
        """What lies in an artifact that is a directory: kept, for its digest never changes."""
        return {
            entry.path: (entry.size_bytes, entry.digest.hex() if entry.digest else "")
            for entry in found.entries()
            if entry.kind != "link"
        }

    def _below(self, scope: str, key: str) -> Names:
        """What has names that begin with `key/`: keys of a run, or what lies in a directory of it."""
        _, number, path = split_version(key)
        if number is not None and path:
            whole = f"{scope}:{key[: -len(path) - 1]}"
            return _within(self._entries(self.store.artifact(whole)), path)
        folder = self._found(scope)
        if not isinstance(folder, _Folder):
            return {}
        if found := _within(folder.names, key):
            return found
        for end in (at for at in range(len(key) - 1, 0, -1) if key[at] == "/"):
            if key[:end] in folder.names:
                directory = self.store.artifact(f"{scope}:{key[:end]}")
                return _within(self._entries(directory), key[end + 1 :])
        return {}


def _chained(fo: str | None, protocol: str | None) -> str | None:
    """The URL of the store behind the `::` of a chained URL."""
    if fo is None:
        return None
    return fo if protocol in (None, "file", "local") else f"{protocol}://{fo.lstrip('/')}"


def _keys(store: holdfast.ExperimentStore, run: str) -> Names:
    """The artifacts of a run; one that is a directory has no size."""
    return {
        about.key: (None if about.kind == "directory" else about.size_bytes, about.digest.hex)
        for about in store.artifacts(run)
    }


def _within(names: Names, folder: str) -> Names:
    front = f"{folder}/"
    found = {name[len(front) :]: about for name, about in names.items() if name.startswith(front)}
    return found or ({"": (None, "")} if names.get(folder, (0, ""))[0] is None else {})


def _children(path: str, names: Names) -> Iterator[dict[str, Any]]:
    """One row for each name right below a path, folders once."""
    joint = "/" if ":" in path and not path.endswith(":") else ":"
    front = path.removesuffix(":") + joint
    seen: dict[str, dict[str, Any]] = {}
    for name, (size, digest) in sorted(names.items()):
        first, slash, _ = name.partition("/")
        if first and (slash or size is None):
            seen[first] = {"name": front + first, "size": 0, "type": "directory"}
        elif first:
            seen.setdefault(first, _about(front + first, size, digest))
    yield from seen.values()


def _about(path: str, size: int | None, digest: str) -> dict[str, Any]:
    return {"name": path, "size": size, "type": "file", "sha256": digest}


def _refuse(path: Any) -> NoReturn:
    raise OSError(errno.EROFS, "holdfast:// only reads: log artifacts with a run", str(path))
