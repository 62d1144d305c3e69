"""A store that is open: found or founded, version-checked, and wired to its backend."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from holdfast import proven
from holdfast.backend.base import Backend
from holdfast.backend.cached import CachedBackend
from holdfast.backend.cachefiles import user_cache
from holdfast.backend.connect import connect
from holdfast.backend.local import LocalBackend
from holdfast.backend.probe import weakness
from holdfast.backend.wrap import WatchedBackend, refuse_writes
from holdfast.chain import Chain
from holdfast.condemned import Condemned
from holdfast.digest import Digest
from holdfast.errors import (
    BackendError,
    Corrupt,
    NameExists,
    NameNotFound,
    NotAStore,
    Unavailable,
    UnsupportedFormat,
)
from holdfast.format import gc, layout, storefile
from holdfast.timestamp import Timestamp

SINGLE_WRITER = "single-writer"  # the storage has no exclusive create, and its user goes on
# What this version understands.
_FEATURES: dict[str, set[str]] = {"read": set(), "write": {SINGLE_WRITER, gc.FEATURE}}
_ONE_WRITER = (
    "the storage of this store cannot keep several writers apart; if yours is the only one, "
    "open it with single_writer=True"
)


HASTY_SECONDS = 15.0  # how long the background tries by itself before it says that nobody answers


@dataclass(frozen=True, slots=True)
class Repository:
    """What every operation works on."""

    backend: Backend
    spools: Backend  # where open spools lie: the store itself, or this machine for a remote one
    store_id: str
    read_only: bool
    as_of: Digest | None = None  # the snapshot that it shows, if it is not the store as it is now
    answered: bool = True  # False for a remote store that was opened while it could not be reached
    alone: bool = (
        True  # True where no other process writes, or the storage keeps writers apart by itself
    )
    # How to open it in another process; never stored, and never shown, since they may hold a secret.
    options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    # The log of the collectors, as far as it was read.
    condemned: Condemned = field(default_factory=Condemned, repr=False, compare=False)

    @property
    def is_remote(self) -> bool:
        """True if what is written goes to this machine first."""
        return self.spools is not self.backend

    @property
    def state(self) -> LocalBackend:
        """The state directory of a remote store. Raises BackendError for a local one."""
        if not isinstance(self.spools, LocalBackend) or not self.is_remote:
            raise BackendError(f"{self.backend.url} has no state directory: it is on this machine")
        return self.spools

    def hasty(self, seconds: float = HASTY_SECONDS) -> Repository:
        """The same, for who tries again later: it gives up a store that does not answer sooner."""
        return replace(self, backend=_within(self.backend, seconds))

    def ensure_apart(self) -> None:
        """Before anything is sent: the server keeps writers apart, as this machine has seen itself.

        Raises ReadOnly if it does not, BackendError.
        """
        if not self.alone:
            proven.ensure(self.backend, os.path.join(state_folder(), "stores"))

    def is_there(self) -> bool:
        """Does the backend hold this store? Raises Unavailable, NameNotFound, Corrupt."""
        data = self.backend.get(layout.STORE)
        about = storefile.decode(data, place=f"{self.backend.url}/{layout.STORE}")
        return bool(about["store_id"] == self.store_id)

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
    url: str | os.PathLike[str] | None,
    *,
    create: bool = True,
    read_only: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    single_writer: bool = False,
    cache: bool = True,
) -> Repository:
    """Open the store at `url`; with `create`, found one in a new or empty place.

    A store of one writer opens read-only unless `single_writer` says that this is it.
    Raises NotAStore, UnsupportedFormat, Corrupt (store.json is damaged) and AccessDenied.
    """
    backend = connect(url, storage_options)
    about, answered = _known(backend)
    if about is None:
        if not create or read_only or not backend.capabilities.writable:
            raise NotAStore(
                f"{backend.url} is not a Holdfast store: make one with `holdfast init`",
                url=backend.url,
            )
        about = _found(backend, single_writer)
    _check_features(backend.url, about)
    backend = _with_cache(backend, about) if cache else backend
    if read_only:
        opened = _wired(WatchedBackend(backend, refuse_writes), about, True)
    elif not backend.capabilities.writable:
        refuse = partial(refuse_writes, why="a store of this kind can only be read")
        opened = _wired(WatchedBackend(backend, refuse), about, True)
    elif SINGLE_WRITER in about["features"]["write"] and not single_writer:
        refuse = partial(refuse_writes, why=_ONE_WRITER)
        opened = _wired(WatchedBackend(backend, refuse), about, True)
    else:
        alone = single_writer or backend.capabilities.append
        opened = replace(_wired(backend, about, False), answered=answered, alone=alone)
    return replace(opened, options=storage_options)


def opened_anyway(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = True,
) -> Repository:
    """The store at `url` without a cache; also one whose store.json is damaged or missing, as long as there
    is anything of a store: for who looks for damage, and mends it. Raises NotAStore."""
    try:
        return open_repository(
            url, create=False, read_only=read_only, storage_options=storage_options,
            single_writer=not read_only, cache=False,
        )  # fmt: skip
    except (Corrupt, NotAStore, UnsupportedFormat):
        backend = connect(url, storage_options)
        if not any(backend.folders(prefix) for prefix in (layout.RUNS, layout.EXPERIMENTS)):
            raise
    spools = backend if backend.capabilities.append else LocalBackend(state_place("unknown"))
    seen = WatchedBackend(backend, refuse_writes) if read_only else backend
    return Repository(seen, spools, "", read_only, options=storage_options)


def connected(backend: Backend, *, single_writer: bool = False) -> Repository:
    """The store on a backend that is connected already; founded if it is empty."""
    about = _read(backend) or _found(backend, single_writer)
    _check_features(backend.url, about)
    return _wired(backend, about, False)


def _with_cache(backend: Backend, about: dict[str, Any]) -> Backend:
    """A remote backend that keeps what it reads, unless that is switched off."""
    files = None if backend.capabilities.append else user_cache()
    return backend if files is None else CachedBackend(backend, files, about["store_id"])


def _known(backend: Backend) -> tuple[dict[str, Any] | None, bool]:
    """(store.json, True), or what this machine remembers of it and False when the store does not answer."""
    if backend.capabilities.append:
        return _read(backend), True
    try:
        about = _read(_within(backend, HASTY_SECONDS))
    except Unavailable:
        about = _remembered(backend.url)
        if about is None:
            raise
        return about, False
    if about is not None:
        _remember(backend.url, about)
    return about, True


def _within(backend: Backend, seconds: float) -> Backend:
    within = getattr(backend, "within", None)  # those that are slow to give up have it
    return backend if within is None else within(seconds)


def _remembered(url: str) -> dict[str, Any] | None:
    places = LocalBackend(os.path.join(state_folder(), "stores"))
    try:
        return storefile.decode(places.get(_name_of(url)), place=f"{places.root}/{_name_of(url)}")
    except (BackendError, Corrupt):
        return None


def _remember(url: str, about: dict[str, Any]) -> None:
    """For opening the store when it cannot be reached. A disk that is full is no reason not to open it."""
    if _remembered(url) != about:
        with suppress(BackendError):
            LocalBackend(os.path.join(state_folder(), "stores")).put(
                _name_of(url), storefile.encode(about)
            )


def _name_of(url: str) -> str:
    return f"{Digest.of(url.encode()).hex[:32]}.json"


def _wired(backend: Backend, about: dict[str, Any], read_only: bool) -> Repository:
    store_id = about["store_id"]
    spools = backend if backend.capabilities.append else LocalBackend(state_place(store_id))
    return Repository(backend, spools, store_id, read_only)


def state_place(store_id: str) -> str:
    """The directory for what this machine has not sent to a remote store yet: in
    $HOLDFAST_STATE_DIR, else in the user's state directory. Raises Corrupt for an id that is no name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", store_id):
        raise Corrupt(f"store.json is damaged: {store_id!r} is no store id", place=layout.STORE)
    return os.path.join(state_folder(), store_id)


def state_folder() -> str:
    """Where this machine keeps what it has not sent to any remote store."""
    folder = os.environ.get("HOLDFAST_STATE_DIR")
    if not folder:
        from platformdirs import user_state_dir

        folder = user_state_dir("holdfast", appauthor=False)
    return folder


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


def _found(backend: Backend, single_writer: bool) -> dict[str, Any]:
    """Make a new store. Of two that try at once, both end up with the one that won."""
    if isinstance(backend, LocalBackend):
        _check_place(backend.root)
    about = {
        "format": storefile.FORMAT,
        "store_id": str(uuid.uuid4()),
        "features": {"read": [], "write": _needed(backend, single_writer), "gc": []},
        "created_at": str(Timestamp.now()),
    }
    try:
        backend.create(layout.STORE, storefile.encode(about))
    except NameExists:
        return _read(backend) or about
    return about


def _needed(backend: Backend, single_writer: bool) -> list[str]:
    """The features without which the new store must not be written. Raises NotAStore."""
    if backend.capabilities.append:
        return [gc.FEATURE]  # a disk or this process's memory, whose contract our own tests keep
    problem = weakness(backend)
    if problem is None:
        proven.note(backend, os.path.join(state_folder(), "stores"))
        return [gc.FEATURE]
    if not single_writer:
        raise NotAStore(
            f"no store can be made at {backend.url}: {problem}. If only one process will ever write "
            "at a time, say so: single_writer=True, or `holdfast init --single-writer`",
            url=backend.url,
        )
    return [gc.FEATURE, SINGLE_WRITER]


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
