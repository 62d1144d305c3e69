"""Artifacts: bytes in under their sha256, bytes out only when they still have it."""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from holdfast import bundles, directories, verified_artifact
from holdfast.bundles import Bundle
from holdfast.digest import Digest
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    Exists,
    InvalidValue,
    NameNotFound,
    NotFound,
)
from holdfast.format import frame, layout, tree
from holdfast.names import check_key
from holdfast.ops import lineage
from holdfast.ops.bundle import MIN_FILES, Digests, Known, bundling, is_small
from holdfast.ops.ingest import Wanted, is_large, put
from holdfast.ops.lineage import Lineage, Stock
from holdfast.ops.lookup import load_run
from holdfast.ops.sources import Memory, Opened, copied, opened
from holdfast.ops.sources import Source as Readable
from holdfast.ops.window import Window
from holdfast.repository import Repository

T = TypeVar("T")
U = TypeVar("U")
Progress = Callable[[int, int], None]  # (done, all): bytes of a file, entries of a directory
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


@dataclass(frozen=True, slots=True)
class How:
    """How to store: in which layout (see ops/ingest.py), and next to what, which only large things ask;
    and where, if not in the repository that everything goes to."""

    wanted: Wanted
    lineage: Callable[[], Lineage]
    into: Repository | None = None


_ALONE = How(Wanted(), Lineage)


def how(
    repository: Repository,
    run_id: str,
    key: str,
    layout: str,
    base: str | None = None,
    compact: bool = False,
    kept: int | None = None,
) -> How:
    """How to store what goes into a run under `key`; the rest as in `lineage.find`.

    Raises InvalidValue, ArtifactNotFound."""
    wanted = Wanted(layout, compact)
    find = partial(lineage.find, repository, run_id, key, base, kept=kept)
    if base is None:
        return How(wanted, find)
    found = find()
    return How(wanted, lambda: found)


def store(
    repository: Repository,
    source: Source,
    progress: Progress | None = None,
    how: How = _ALONE,
) -> dict[str, Any]:
    """Store a file, a directory, bytes or a binary stream; returns what a manifest says of it.

    Raises NotFound when there is no such path, InvalidValue for what cannot be an artifact.
    """
    repository = how.into or repository
    if isinstance(source, (bytes, bytearray, memoryview)):
        return store_one(repository, Memory(source), "bytes", how, progress)
    if isinstance(source, (str, os.PathLike)):
        return _store_path(repository, Path(source), progress, how)
    if isinstance(source, (Memory, Opened)):
        return store_one(repository, source, "bytes", how, progress)
    with rereadable(source) as held:
        return store_one(repository, held, "bytes", how, progress)


@contextmanager
def rereadable(source: Source) -> Iterator[Any]:
    """The source, or what is left of it if it is a stream, as something that may be stored more than once."""
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        yield source
        return
    if not hasattr(source, "read"):
        raise InvalidValue(
            f"an artifact is a path, bytes or an open binary file, not {type(source).__name__}"
        )
    if isinstance(source, io.TextIOBase):
        raise InvalidValue("an artifact must be opened in binary mode: open(path, 'rb')")
    with copied(source) as held:
        yield held


def may_share(source: Source, wanted: Wanted) -> bool:
    """Whether something in the source may be packed, as far as that is known before it is read."""
    if wanted.layout == "plain":
        return False
    if isinstance(source, (bytes, bytearray, memoryview)):
        return is_large(memoryview(source).nbytes, wanted)
    if not isinstance(source, (str, os.PathLike)):
        return True
    path = Path(source)
    if path.is_dir():
        return shares(list(directories.scan_tree(path)), wanted)
    return path.is_file() and is_large(path.stat().st_size, wanted)


def shares(everything: Iterable[directories.Found], wanted: Wanted) -> bool:
    """Whether something in a directory may be packed."""
    files = [found for found in everything if found.entry.kind == "file"]
    small = _bundled(files, wanted)
    return bool(small) or any(is_large(found.size_bytes, wanted) for found in files)


def _bundled(files: Iterable[directories.Found], wanted: Wanted) -> list[directories.Found]:
    """The files of a directory that go into a bundle."""
    small = [found for found in files if is_small(found.size_bytes)]
    return [] if wanted.layout == "plain" or len(small) < MIN_FILES else small


def store_one(
    repository: Repository, source: Readable, kind: str, how: How, progress: Progress | None
) -> dict[str, Any]:
    """An artifact that is one row of bytes."""
    if not is_large(source.size_bytes, how.wanted):
        stored = put(repository.backend, source, Window(repository.backend), how.wanted, progress)
        return _about(stored.digest, stored.size_bytes, kind)
    lineage = how.lineage()
    window = Stock(repository, lineage, is_directory=False).whole()
    stored = put(repository.backend, source, window, how.wanted, progress)
    return _about(stored.digest, stored.size_bytes, kind) | lineage.about()


def choose(
    repository: Repository, run: str, keys: Iterable[str] | None
) -> dict[str, Mapping[str, Any]]:
    """What the run's manifest says of the artifacts `keys`, or of all.

    Raises RunNotFound, ArtifactNotFound.
    """
    run_id, snapshot = load_run(repository, run)
    found = snapshot.state.get("artifacts", {})
    if keys is None:
        return dict(found)
    wanted = list(keys)
    for key in wanted:
        if key not in found:
            raise ArtifactNotFound(
                f"run {run_id} has no artifact {key!r}; it has {', '.join(sorted(found)) or 'none'}",
                run_id=run_id,
                key=key,
            )
    return {key: found[key] for key in wanted}


def store_many(
    repository: Repository, sources: Mapping[str, Source], hows: Callable[[str], How]
) -> dict[str, Any]:
    """Store each source as `hows(key)` says, as many at once as the backend has use for; what a manifest
    says of each.

    Raises what `store` raises for the first that fails; what was stored by then is harmless.
    """

    def one(key: str) -> dict[str, Any]:
        return store(repository, sources[key], None, hows(key))

    return dict(zip(sources, _each(repository, one, sources), strict=True))


def read_many(repository: Repository, abouts: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """All bytes of each artifact, verified. Raises Corrupt, InvalidValue for a directory."""
    found = _each(repository, partial(read, repository), abouts.values())
    return dict(zip(abouts, found, strict=True))


def fetch_many(
    repository: Repository, abouts: Mapping[str, Mapping[str, Any]], root: Path, overwrite: bool
) -> dict[str, Path]:
    """Write each artifact out under `root`, at its key. Raises Exists, Corrupt, and InvalidValue, before
    anything is written, when a key that somebody put into the manifest is none and may lead elsewhere."""
    for key in abouts:
        check_key("artifact", key)

    def one(key: str) -> Path:
        return fetch(repository, abouts[key], root / key, overwrite)

    return dict(zip(abouts, _each(repository, one, abouts), strict=True))


def _each(repository: Repository, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`work` on each item, several at once; the first failure stops what has not begun."""
    with ThreadPoolExecutor(repository.backend.capabilities.parallel) as pool:
        jobs = [pool.submit(work, item) for item in items]
        try:
            return [job.result() for job in jobs]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _about(digest: Digest, size_bytes: int, kind: str) -> dict[str, Any]:
    return {
        "digest": str(digest),
        "size_bytes": size_bytes,
        "kind": kind,
        "created_at": time.time_ns(),
    }


def _store_path(
    repository: Repository, path: Path, progress: Progress | None, how: How
) -> dict[str, Any]:
    if path.is_dir():
        return store_directory(repository, list(directories.scan_tree(path)), progress, how)
    if not path.exists():
        raise NotFound(f"there is no file or directory {path}", path=str(path))
    if not path.is_file():
        raise InvalidValue(f"{path} is neither a file nor a directory", path=str(path))
    with opened(path) as source:
        return store_one(repository, source, "file", how, progress)


def _counted(pieces: Iterator[bytes], total: int, progress: Progress | None) -> Iterator[bytes]:
    """The pieces, with word of how many bytes have gone by."""
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if progress:
            progress(done, total)


def store_directory(
    repository: Repository,
    everything: list[directories.Found],
    progress: Progress | None,
    how: How,
) -> dict[str, Any]:
    """An artifact that is a directory of these files and folders."""
    files = [found for found in everything if found.entry.kind == "file"]
    small, shared = _bundled(files, how.wanted), shares(files, how.wanted)
    lineage = how.lineage() if shared else Lineage()
    stock = Stock(repository, lineage, is_directory=True)
    known = stock.known() if small else Known()

    def done(number: int) -> None:
        if progress:
            progress(number, len(everything))

    with bundling(repository.backend, known, how.wanted.compact) as bundle:
        paths = ((found.entry.path, partial(opened, found.path)) for found in small)
        digests = bundle.store(paths, done)
        for number, found in enumerate(files, len(everything) - len(files)):
            done(number)
            if found.entry.path not in digests:
                digests[found.entry.path] = _store_file(repository, found, stock, how)
        document = tree.encode_tree(_entry(found, digests) for found in everything)
        bundle.publish(Digest.of(document))
    digest = put(repository.backend, Memory(document), stock.window, Wanted("plain")).digest
    total = sum(size for _, size in digests.values())
    return _about(digest, total, "directory") | (lineage.about() if shared else {})


def _store_file(
    repository: Repository, found: directories.Found, stock: Stock, how: How
) -> tuple[Digest, int]:
    """One file of a directory by itself."""
    with opened(found.path) as source:
        stored = put(repository.backend, source, stock.file(found.entry.path), how.wanted)
    if stored.recipe:
        stock.window.add(stored.recipe)
    return stored.digest, stored.size_bytes


def _entry(found: directories.Found, digests: Digests) -> tree.TreeEntry:
    entry = found.entry
    if entry.kind != "file":
        return entry
    digest, size = digests[entry.path]
    return tree.TreeEntry(entry.path, "file", entry.mode, digest.raw, size, None)


def read(repository: Repository, about: Mapping[str, Any]) -> bytes:
    """All bytes of an artifact. Raises Corrupt, InvalidValue for a directory."""
    if about["kind"] == "directory":
        raise InvalidValue("the artifact is a directory: get_artifact writes it out")
    return verified_artifact.read(
        repository.backend, Digest.parse(about["digest"]), about["size_bytes"]
    )


def by_digest(repository: Repository, digest: Digest) -> dict[str, Any]:
    """What can be said of an artifact that is known by its digest alone. Raises ArtifactNotFound."""
    size = verified_artifact.size_of(repository.backend, digest)
    if size is None:
        raise ArtifactNotFound(f"{digest} is not in the store", digest=str(digest))
    return {"digest": str(digest), "kind": "bytes", "size_bytes": size}


def open_file(repository: Repository, about: Mapping[str, Any]) -> io.BufferedReader | io.BytesIO:
    """A seekable binary file, each piece verified before it is handed out."""
    return verified_artifact.open_file(
        repository.backend, Digest.parse(about["digest"]), about["size_bytes"]
    )


def fetch(
    repository: Repository,
    about: Mapping[str, Any],
    target: Path,
    overwrite: bool,
    progress: Progress | None = None,
) -> Path:
    """Write an artifact to `target`, verified before it has its name. Returns the path written."""
    digest = Digest.parse(about["digest"])
    if about["kind"] == "directory":
        entries, backend = directory_entries(repository, digest), repository.backend
        found, damage = bundles.load(backend, digest)
        bundle = Bundle(backend, found, together=True)

        def receive(raw: bytes, size: int, take: Callable[[Iterator[Any]], None]) -> None:
            of, problem = Digest.from_raw(raw), damage
            if of in bundle:
                try:
                    return take(iter([bundle.read(of)]))
                except Corrupt as error:  # then it may lie somewhere else as well
                    problem = error
            try:
                return verified_artifact.receive(backend, of, size, take)
            except Corrupt as error:
                raise problem or error from error

        return directories.extract_tree(entries, target, receive, overwrite)
    return _fetch_file(repository, about, target, overwrite, progress)


def is_directory(repository: Repository, digest: Digest) -> bool:
    """Whether an artifact is a directory: its bytes tell, its digest does not."""
    front = frame.header(tree.KIND, tree.VERSION)
    try:
        return repository.backend.get_range(layout.blob(digest), 0, len(front)) == front
    except (
        NameNotFound
    ):  # packed, as a directory is only if the name of its blob was collected once
        made_of = verified_artifact.find(repository.backend, digest)
    if made_of is None:
        return False
    with verified_artifact.open_file(repository.backend, digest, made_of.size_bytes) as file:
        return file.read(len(front)) == front


def directory_entries(repository: Repository, digest: Digest) -> tuple[tree.TreeEntry, ...]:
    """What lies in a directory artifact."""
    data = verified_artifact.read(repository.backend, digest)
    return tree.decode_tree(data, place=layout.blob(digest))


def _fetch_file(
    repository: Repository,
    about: Mapping[str, Any],
    target: Path,
    overwrite: bool,
    progress: Progress | None,
) -> Path:
    digest = Digest.parse(about["digest"])
    if target.exists() and not overwrite:
        if target.is_file() and _digest_of(target) == digest:
            return target
        raise Exists(
            f"{target} is there and different: overwrite (overwrite=True, --overwrite) replaces it",
            path=str(target),
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(4)}.part"
    try:
        _write(repository, about, temporary, progress)
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return target


def _write(
    repository: Repository, about: Mapping[str, Any], path: Path, progress: Progress | None
) -> None:
    digest, total = Digest.parse(about["digest"]), about["size_bytes"]

    def take(pieces: Iterator[Any]) -> None:
        with open(path, "wb") as file:
            for piece in _counted(pieces, total, progress):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    verified_artifact.receive(repository.backend, digest, total, take)


def _digest_of(path: Path) -> Digest:
    import hashlib

    with open(path, "rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
