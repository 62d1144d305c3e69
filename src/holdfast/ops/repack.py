"""From one layout to the other, verified on the way; the old form stays until it is collected.

    repack(repository, run_id, keys, layout, …)   artifacts of a run; the manifest notes the layout
    repack_alone(repository, digest, layout, …)   one artifact by its digest

Both may be stopped at any moment and begun again: what is there in that layout is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from holdfast import verified_artifact
from holdfast.backend.base import Backend
from holdfast.bundles import Bundle
from holdfast.digest import Digest
from holdfast.errors import ArtifactNotFound, InvalidState
from holdfast.format import layout as names
from holdfast.format.recipe import Recipe
from holdfast.ops import lineage, references
from holdfast.ops.artifacts import by_digest, directory_entries, is_directory
from holdfast.ops.bundle import MIN_FILES, Known, bundling, is_small
from holdfast.ops.ingest import MIN_PACKED_BYTES, Progress, Stored, Wanted, put
from holdfast.ops.lineage import Stock
from holdfast.ops.sources import Memory, Source
from holdfast.ops.window import Window
from holdfast.repository import Repository
from holdfast.verified_chunks import Bytes, Chunks
from holdfast.work import each


@dataclass(frozen=True, slots=True)
class Repacked:
    """One file that is in the wanted layout now; `new_bytes` is what that added to the store."""

    key: str
    digest: Digest
    size_bytes: int
    new_bytes: int


class Rebuilt:
    """A stored artifact as a source: each piece is verified before a byte of it is used."""

    def __init__(self, repository: Repository, digest: Digest) -> None:
        found, problem = verified_artifact.recipes(repository.backend, digest)
        if problem and not found:
            raise problem
        made_of = verified_artifact.best(found) if found else None
        self._inner: Memory | None = None
        if made_of is None:  # short: it lies whole in its blob
            self._inner = Memory(verified_artifact.read(repository.backend, digest))
            self.size_bytes = self._inner.size_bytes
            return
        self.size_bytes = made_of.size_bytes
        self._recipe = made_of
        self._piece: Callable[[int], Bytes] = lru_cache(8)(
            Chunks(repository.backend, made_of, found).piece
        )

    def get(self, offset: int, length: int) -> Any:
        if self._inner:
            return self._inner.get(offset, length)
        stop = min(offset + length, self.size_bytes)
        parts, at = [], offset
        while at < stop:
            index = self._recipe.piece_at(at)
            begin = at - int(self._recipe.starts[index])
            parts.append(self._piece(index)[begin : begin + stop - at].data)
            at += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


def repack_digest(
    repository: Repository,
    digest: Digest,
    window: Window,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Stored:
    """Store an artifact in the layout `wanted`. Raises ArtifactNotFound, Corrupt, BackendError."""
    size = by_digest(repository, digest)["size_bytes"]
    if wanted.layout in verified_artifact.layouts(repository.backend, digest) and not wanted.again:
        return Stored(digest, size, wanted.layout == "packed", 0)
    if wanted.layout == "plain" and repository.condemned.has(names.blob(digest)):
        raise InvalidState(
            f"{digest} cannot be plain again: its blob was collected once, and that name is not used "
            "again; it stays packed",
            digest=str(digest),
        )
    source: Source = Rebuilt(repository, digest)
    return put(repository.backend, source, window, wanted, progress)


def repack(
    repository: Repository,
    run_id: str,
    keys: Sequence[str],
    *,
    layout: str,
    base: str | None = None,
    compact: bool = False,
    executor: str | Executor | None = None,
    progress: Progress | None = None,
) -> list[Repacked]:
    """Store artifacts of a run (all, without keys) in `layout`, on the workers of `executor`.

    Raises ArtifactNotFound, Corrupt."""
    state = repository.manifest(run_id).load().state
    rows = {k: row for k, row in state.get("artifacts", {}).items() if row["kind"] != "record"}
    for key in keys:
        if key not in rows:
            raise ArtifactNotFound(
                f"run {run_id} has no artifact {key!r}; it has {', '.join(sorted(rows)) or 'none'}",
                run_id=run_id,
                key=key,
            )
    chosen = {key: rows[key] for key in keys or rows}
    ages = sorted(chosen, key=lambda key: _age(chosen[key]))
    groups = _versions(ages) if layout == "packed" and base is None else [[key] for key in ages]
    pieces = [_Piece(run_id, tuple(group), layout, base, compact) for group in groups]
    done, found = 0, list[tuple[int, list[Repacked]]]()
    for piece, made in each(repository, _carried_out, pieces, executor):
        done += len(piece.keys)
        if progress:
            progress(done, len(chosen))
        found += zip(map(ages.index, piece.keys), made, strict=True)
    return [one for _, some in sorted(found, key=lambda item: item[0]) for one in some]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Artifacts that are stored again one after the other, since each is the base of the next."""

    run_id: str
    keys: tuple[str, ...]
    layout: str
    base: str | None
    compact: bool


def _versions(keys: Sequence[str]) -> list[list[str]]:
    """Keys that differ in their numbers only, together: see ops/lineage.py."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(re.sub("[0-9]+", "0", key), []).append(key)
    return list(groups.values())


def _carried_out(repository: Repository, piece: _Piece) -> list[list[Repacked]]:
    rows = repository.manifest(piece.run_id).load().state.get("artifacts", {})
    found: list[list[Repacked]] = []
    for key in piece.keys:
        if key in rows:
            found.append(references.again(partial(_stored, repository, piece, key, rows[key])))
        else:  # it was removed meanwhile
            found.append([])
    return found


def _stored(
    repository: Repository, piece: _Piece, key: str, about: Mapping[str, Any]
) -> list[Repacked]:
    """One artifact, and the note of its layout."""
    seen, layout = references.writable(repository), piece.layout
    done = _one(seen, piece.run_id, key, about, layout, piece.base, piece.compact)
    _note(repository, piece.run_id, key, about["digest"], layout)
    return done


def repack_alone(
    repository: Repository,
    digest: Digest,
    *,
    layout: str,
    base: str | None = None,
    compact: bool = False,
) -> list[Repacked]:
    """Store a file or directory in `layout`, against the artifact with the digest `base` if there is one.

    Raises ArtifactNotFound, InvalidValue for what is no digest, Corrupt."""
    kind = "directory" if is_directory(repository, digest) else "file"
    about = by_digest(repository, digest) | {"kind": kind}
    if base is not None:
        by_digest(repository, Digest.parse(base))
        about |= {"version": 1, "bases": [[0, base]]}
    return _one(references.writable(repository), "", str(digest), about, layout, None, compact)


def _age(about: Mapping[str, Any]) -> int:
    return int(about["created_at"])


def _one(
    repository: Repository,
    run_id: str,
    key: str,
    about: Mapping[str, Any],
    layout: str,
    base: str | None,
    compact: bool,
) -> list[Repacked]:
    """All files of an artifact. The base is the one it was stored against, unless `base` says another."""
    known = lineage.of(about) if base is None else lineage.find(repository, run_id, key, base)
    directory = about["kind"] == "directory"
    stock = Stock(repository, known, is_directory=directory)
    done = []
    for path, digest in _files(repository, about):
        window = stock.file(path) if directory else stock.whole()
        wanted = Wanted(layout, compact, again=compact, expect=digest)
        stored = repack_digest(repository, digest, window.without(digest), wanted)
        name = f"{key}/{path}" if path else key
        done.append(Repacked(name, digest, stored.size_bytes, stored.new_bytes))
    if directory:
        bundles = stock.known().bundles if layout == "packed" else ()
        small = _small(repository, Digest.parse(about["digest"]), layout, bundles)
        done += [Repacked(key, *small)] if small else []
    return done


def _small(
    repository: Repository, tree: Digest, layout: str, bundles: Sequence[Recipe]
) -> tuple[Digest, int, int] | None:
    """The small files of a directory, into a bundle or out of it: (the directory, the bytes of those that
    were not so before, what that added); None if there are none."""
    backend, held = repository.backend, Bundle.of(repository.backend, tree, together=True)
    files = {
        Digest.from_raw(entry.digest): entry.size_bytes or 0
        for entry in directory_entries(repository, tree)
        if entry.digest and is_small(entry.size_bytes or 0)
    }
    if layout == "plain":
        todo = [
            of for of in files if of in held and verified_artifact.has_blob(backend, of) is None
        ]
        window, plain = Window(backend), Wanted("plain")
        new = sum(put(backend, Memory(held.read(of)), window, plain).size_bytes for of in todo)
        return (tree, new, new) if todo else None
    todo = [of for of in files if of not in held]
    if len(files) < MIN_FILES or not todo:
        return None

    def source(of: Digest) -> AbstractContextManager[Source]:
        return nullcontext(Memory(_small_file(backend, held, of)))

    with bundling(backend, Known(bundles), compact=False) as writer:
        writer.store((str(of), partial(source, of)) for of in files)
        return tree, sum(files[of] for of in todo), writer.publish(tree)


def _small_file(backend: Backend, held: Bundle, of: Digest) -> bytes:
    return held.read(of) if of in held else verified_artifact.read(backend, of)


def _files(repository: Repository, about: Mapping[str, Any]) -> list[tuple[str, Digest]]:
    """(path, digest) of what is large enough to be in one layout or the other."""
    digest = Digest.parse(about["digest"])
    if about["kind"] != "directory":
        return [("", digest)] if about["size_bytes"] > MIN_PACKED_BYTES else []
    return [
        (entry.path, Digest.from_raw(entry.digest))
        for entry in directory_entries(repository, digest)
        if entry.digest and (entry.size_bytes or 0) > MIN_PACKED_BYTES
    ]


def _note(repository: Repository, run_id: str, key: str, digest: str, layout: str) -> None:
    """Say in the manifest which layout was asked for, so that the other one may be collected."""

    def change(state: Mapping[str, Any]) -> dict[str, Any]:
        now = state.get("artifacts", {}).get(key, {})
        same = now.get("digest") == digest and now.get("layout") != layout
        return {"artifacts": {key: {**now, "layout": layout}}} if same else {}

    references.commit(repository, repository.manifest(run_id).prefix, change)
