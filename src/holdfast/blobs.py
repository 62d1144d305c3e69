"""Storing bytes under their own sha256, in one pass and in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from blake3 import blake3

from holdfast.backend.base import Backend, Staged
from holdfast.backend.local import LocalBackend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound, NameRetired
from holdfast.format import layout, recipe
from holdfast.format.recipe import CHUNK_BYTES
from holdfast.ids import new_nonce


def pieces_of(stream: BinaryIO) -> Iterator[bytes]:
    """The stream in pieces of exactly CHUNK_BYTES, the last one shorter."""
    while True:
        piece = stream.read(CHUNK_BYTES)
        while piece and len(piece) < CHUNK_BYTES:
            more = stream.read(CHUNK_BYTES - len(piece))
            if not more:
                break
            piece += more
        if not piece:
            return
        yield piece


def put_bytes(backend: Backend, data: bytes) -> tuple[Digest, int]:
    """Store `data`; returns its digest and size. Storing the same bytes again stores nothing."""
    view = memoryview(data)
    return put(backend, (view[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)))


def put(backend: Backend, pieces: Iterable[bytes | memoryview]) -> tuple[Digest, int]:
    """Store what `pieces` (of CHUNK_BYTES each, the last one shorter) add up to, durable."""
    sha, ids, size = hashlib.sha256(), [], 0
    staged = backend.stage()
    try:
        for piece in pieces:
            sha.update(piece)
            ids.append(blake3(piece).digest())
            size += len(piece)
            staged.write(piece)
        digest = Digest(sha.hexdigest())
        _publish(backend, staged, layout.blob(digest), size)
    finally:
        staged.abort()
    if len(ids) > 1:
        _put_recipe(backend, digest, size, ids)
    return digest, size


def _publish(backend: Backend, staged: Staged, name: str, size: int) -> bool:
    """Give the bytes their name; False if they were there. A stored blob of another size is damaged,
    and these are its bytes: they take its place. (That a blob of the same size is whole, `verify` says;
    reading it here would make storing the same bytes again as dear as reading them.)"""
    if staged.commit(name):
        return True
    if size_there(backend, name) == size:
        return False
    staged.replace(name)
    return True


def size_there(backend: Backend, name: str) -> int:
    """How long a file is that was there a moment ago. Raises NameRetired if a collector was quicker: the name
    is not used again."""
    try:
        return backend.stat(name).size_bytes
    except NameNotFound as error:
        raise NameRetired(f"{name} was collected meanwhile: store it again", name=name) from error


def copy(
    source: Backend,
    target: Backend,
    digest: Digest,
    place: Callable[[Digest], str] = layout.blob,
) -> bool:
    """Store a blob of `source`, or a pack (`layout.pack`), in `target` too; False if it was there. Raises
    Corrupt for damaged bytes, and stores nothing then."""
    name, sha, size = place(digest), hashlib.sha256(), 0
    staged = _staged(source, target, name)
    try:
        for piece in source.chunks(name):
            sha.update(piece)
            size += len(piece)
            staged.write(piece)
        if sha.hexdigest() != digest.hex:
            raise Corrupt(f"{source.url}/{name} is damaged: it was not sent", place=name)
        return _publish(target, staged, name, size)
    finally:
        staged.abort()


def _staged(source: Backend, target: Backend, name: str) -> Staged:
    """What takes the bytes of `name`; a file of this machine is sent from where it lies."""
    send = getattr(target, "stage_file", None)  # remote backends have it
    if send is None or not isinstance(source, LocalBackend):
        return target.stage()
    path = os.path.join(source.root, *name.split("/"))
    staged: Staged = send(path, source.stat(name).size_bytes)
    return staged


def _put_recipe(backend: Backend, digest: Digest, size: int, ids: list[bytes]) -> None:
    """Give an artifact of more than one piece its chunk list, so that ranges can be verified."""
    folder = layout.recipes(digest).rpartition("/")[0] + "/"
    if not any(stat.name.startswith(layout.recipes(digest)) for stat in backend.walk(folder)):
        data = recipe.encode(recipe.plain(digest, size, ids))
        backend.create(layout.recipe(digest, new_nonce()), data)
