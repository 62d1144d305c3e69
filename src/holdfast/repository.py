"""A store that is open: found or founded, version-checked, and wired to its backend."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any

from holdfast.backend.base import Backend
from holdfast.backend.connect import connect
from holdfast.backend.local import LocalBackend
from holdfast.backend.wrap import WatchedBackend, refuse_writes
from holdfast.chain import Chain
from holdfast.errors import NameExists, NameNotFound, NotAStore, UnsupportedFormat
from holdfast.format import layout, storefile
from holdfast.timestamp import Timestamp

_FEATURES: dict[str, set[str]] = {"read": set(), "write": set()}  # what this version understands


@dataclass(frozen=True, slots=True)
class Repository:
    """What every operation works on."""

    backend: Backend
    spools: Backend  # where open spools lie: the store itself, or this machine for a remote one
    store_id: str
    read_only: bool

    def manifest(self, run_id: str) -> Chain:
        return Chain(self.backend, layout.manifest(run_id))

    def rank(self, run_id: str, rank: int) -> Chain:
        return Chain(self.backend, layout.rank(run_id, rank))

    def ranks(self, run_id: str) -> list[int]:
        """The numbers of the further writers that ever joined a run, ascending."""
        names = self.backend.folders(layout.ranks(run_id))
        return sorted(number for name in names if (number := layout.rank_number(name)) is not None)

    def experiment(self, experiment_id: str) -> Chain:
        return Chain(self.backend, layout.experiment(experiment_id))


def open_repository(
    url: str | os.PathLike[str] | None, *, create: bool = True, read_only: bool = False
) -> Repository:
    """Open the store at `url`; with `create`, found one in a new or empty place.

    Raises NotAStore, UnsupportedFormat, Corrupt (store.json is damaged) and AccessDenied.
    """
    backend = connect(url)
    about = _read(backend)
    if about is None:
        if not create or read_only:
            raise NotAStore(
                f"{backend.url} is not a Holdfast store: make one with `holdfast init`",
                url=backend.url,
            )
        about = _found(backend)
    _check_features(backend.url, about)
    if read_only:
        backend = WatchedBackend(backend, refuse_writes)
    return Repository(backend, backend, about["store_id"], read_only)


def connected(backend: Backend) -> Repository:
    """The store on a backend that is connected already; founded if it is empty."""
    about = _read(backend) or _found(backend)
    _check_features(backend.url, about)
    return Repository(backend, backend, about["store_id"], False)


def _read(backend: Backend) -> dict[str, Any] | None:
    place = f"{backend.url}/{layout.STORE}"
    if isinstance(backend, LocalBackend) and os.path.isfile(backend.root):
        raise NotAStore(f"{backend.root} is a file: a store is a directory", url=backend.url)
    try:
        return storefile.decode(backend.get(layout.STORE), place=place)
    except NameNotFound:
        return None


def _check_features(url: str, about: dict[str, Any]) -> None:
    for kind, known in _FEATURES.items():
        unknown = sorted(set(about["features"].get(kind, [])) - known)
        if unknown:
            raise UnsupportedFormat(
                f"{url} needs {', '.join(unknown)} to {kind} it, which this Holdfast does not "
                "know: upgrade holdfast",
                place=layout.STORE,
                features=unknown,
            )


def _found(backend: Backend) -> dict[str, Any]:
    """Make a new store. Of two that try at once, both end up with the one that won."""
    if isinstance(backend, LocalBackend):
        _check_place(backend.root)
    about = {
        "format": storefile.FORMAT,
        "store_id": str(uuid.uuid4()),
        "features": {"read": [], "write": [], "gc": []},
        "created_at": str(Timestamp.now()),
    }
    try:
        backend.create(layout.STORE, storefile.encode(about))
    except NameExists:
        return _read(backend) or about
    return about


def _check_place(root: str) -> None:
    """A new store goes into a new or empty directory outside any other store."""
    above = os.path.dirname(root)
    while above != os.path.dirname(above):
        if os.path.isfile(os.path.join(above, layout.STORE)):
            raise NotAStore(
                f"{root} lies inside the store {above}: open that one, or found this one elsewhere",
                url=root,
            )
        above = os.path.dirname(above)
    names = os.listdir(root) if os.path.isdir(root) else []
    if layout.STORE not in names and any(not name.startswith(".tmp-") for name in names):
        raise NotAStore(
            f"{root} is not a Holdfast store and not empty: give a new or an empty directory",
            url=root,
        )
