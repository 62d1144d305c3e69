"""Artifacts: bytes in under their sha256, bytes out only when they still have it."""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from holdfast import blobs, directories, verified
from holdfast.digest import Digest
from holdfast.errors import ArtifactNotFound, Exists, InvalidValue, NameNotFound, NotFound
from holdfast.format import layout, tree
from holdfast.format.recipe import CHUNK_BYTES
from holdfast.ops.lookup import load_run
from holdfast.repository import Repository

T = TypeVar("T")
U = TypeVar("U")
Progress = Callable[[int, int], None]  # (done, all): bytes of a file, entries of a directory
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def store(
    repository: Repository, source: Source, progress: Progress | None = None
) -> dict[str, Any]:
    """Store a file, a directory, bytes or a binary stream; returns what a manifest says of it.

    Raises NotFound when there is no such path, InvalidValue for what cannot be an artifact.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        digest, size = blobs.put_bytes(repository.backend, bytes(source))
        return _about(digest, size, "bytes")
    if isinstance(source, (str, os.PathLike)):
        return _store_path(repository, Path(source), progress)
    if not hasattr(source, "read"):
        raise InvalidValue(
            f"an artifact is a path, bytes or an open binary file, not {type(source).__name__}"
        )
    if isinstance(source, io.TextIOBase):
        raise InvalidValue("an artifact must be opened in binary mode: open(path, 'rb')")
    digest, size = blobs.put(repository.backend, blobs.pieces_of(source))
    return _about(digest, size, "bytes")


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


def store_many(repository: Repository, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Store each source, as many at once as the backend has use for; what a manifest says of each.

    Raises what `store` raises for the first that fails; what was stored by then is harmless.
    """
    return dict(
        zip(sources, _each(repository, partial(store, repository), sources.values()), strict=True)
    )


def read_many(repository: Repository, abouts: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """All bytes of each artifact, verified. Raises Corrupt, InvalidValue for a directory."""
    found = _each(repository, partial(read, repository), abouts.values())
    return dict(zip(abouts, found, strict=True))


def fetch_many(
    repository: Repository, abouts: Mapping[str, Mapping[str, Any]], root: Path, overwrite: bool
) -> dict[str, Path]:
    """Write each artifact out under `root`, at its key. Raises Exists, Corrupt."""

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


def _store_path(repository: Repository, path: Path, progress: Progress | None) -> dict[str, Any]:
    if path.is_dir():
        return _store_directory(repository, path, progress)
    if not path.exists():
        raise NotFound(f"there is no file or directory {path}", path=str(path))
    if not path.is_file():
        raise InvalidValue(f"{path} is neither a file nor a directory", path=str(path))
    with open(path, "rb", buffering=0) as file:
        pieces = _counted(blobs.pieces_of(file), path.stat().st_size, progress)
        digest, size = blobs.put(repository.backend, pieces)
    return _about(digest, size, "file")


def _counted(pieces: Iterator[bytes], total: int, progress: Progress | None) -> Iterator[bytes]:
    """The pieces, with word of how many bytes have gone by."""
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if progress:
            progress(done, total)


def _store_directory(
    repository: Repository, root: Path, progress: Progress | None
) -> dict[str, Any]:
    entries, total = [], 0
    everything = list(directories.scan_tree(root))
    for number, found in enumerate(everything):
        if progress:
            progress(number, len(everything))
        entry = found.entry
        if entry.kind == "file":
            with open(found.path, "rb", buffering=0) as file:
                digest, size = blobs.put(repository.backend, blobs.pieces_of(file))
            entry = tree.TreeEntry(entry.path, "file", entry.mode, digest.raw, size, None)
            total += size
        entries.append(entry)
    digest, _ = blobs.put_bytes(repository.backend, tree.encode_tree(entries))
    return _about(digest, total, "directory")


def read(repository: Repository, about: Mapping[str, Any]) -> bytes:
    """All bytes of an artifact. Raises Corrupt, InvalidValue for a directory."""
    if about["kind"] == "directory":
        raise InvalidValue("the artifact is a directory: get_artifact writes it out")
    return verified.read_blob(
        repository.backend, Digest.parse(about["digest"]), about["size_bytes"]
    )


def by_digest(repository: Repository, digest: Digest) -> dict[str, Any]:
    """What can be said of an artifact that is known by its digest alone. Raises ArtifactNotFound."""
    try:
        size = repository.backend.stat(layout.blob(digest)).size_bytes
        return {"digest": str(digest), "kind": "bytes", "size_bytes": size}
    except NameNotFound as error:
        raise ArtifactNotFound(f"{digest} is not in the store", digest=str(digest)) from error


def open_file(repository: Repository, about: Mapping[str, Any]) -> io.BufferedReader | io.BytesIO:
    """A seekable binary file, each piece verified before it is handed out."""
    digest = Digest.parse(about["digest"])
    if about["size_bytes"] > CHUNK_BYTES:
        made_of = verified.load_recipe(repository.backend, digest)
        if made_of is not None:
            return io.BufferedReader(verified.VerifiedFile(repository.backend, made_of))
    return io.BytesIO(verified.read_blob(repository.backend, digest))


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
        entries = directory_entries(repository, digest)

        def open_blob(raw: bytes, size: int) -> Iterator[bytes]:
            return verified.stream_blob(repository.backend, Digest.from_raw(raw), size)

        return directories.extract_tree(entries, target, open_blob, overwrite)
    return _fetch_file(repository, about, target, overwrite, progress)


def directory_entries(repository: Repository, digest: Digest) -> tuple[tree.TreeEntry, ...]:
    """What lies in a directory artifact."""
    data = verified.read_blob(repository.backend, digest)
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
        verified.again(lambda: _write(repository, about, temporary, progress))
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return target


def _write(
    repository: Repository, about: Mapping[str, Any], path: Path, progress: Progress | None
) -> None:
    digest, total = Digest.parse(about["digest"]), about["size_bytes"]
    pieces = verified.stream_blob(repository.backend, digest, total)
    with open(path, "wb") as file:
        for piece in _counted(pieces, total, progress):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _digest_of(path: Path) -> Digest:
    import hashlib

    with open(path, "rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
