"""Adding references to chains, so that no collector takes away what they need.

    references.commit(repository, prefix, decide)   as Chain.commit, for a change that refers to files
    references.again(work)                          `work` stores and commits; again if that was condemned

Files may be stored at any time before. What `commit` sees to: the chain is open, the log of the collectors
was read after that and after every entry of somebody else, and nothing that the change refers to is
condemned. See docs/format/gc.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from holdfast import process
from holdfast.chain import Chain, Decide, Snapshot
from holdfast.digest import Digest
from holdfast.errors import HoldfastError, NameRetired
from holdfast.format import gc, layout
from holdfast.format.manifest import State
from holdfast.format.outbox import joined
from holdfast.ops import reach
from holdfast.repository import Repository
from holdfast.verified_artifact import is_whole

T = TypeVar("T")
Check = Callable[[Repository, State, State], None]  # (what a writer may see, the state, the change)
_MOST_TRIES = 16  # each needs a collection that condemns just what was stored a moment ago


def again(work: Callable[[], T]) -> T:
    """What `work` returns; while it raises NameRetired, what it stored must be stored anew."""
    for _ in range(_MOST_TRIES - 1):
        try:
            return work()
        except NameRetired:
            pass
    return work()


def writable(repository: Repository) -> Repository:
    """The same, as a writer may see it: what is condemned is not there, and no such name can be created."""
    return replace(repository, backend=repository.condemned.view(repository.backend))


def commit(
    repository: Repository,
    prefix: str,
    decide: Decide,
    *,
    base: Snapshot | None = None,
    first: State | None = None,
    full: bool = False,
    check: Check | None = None,
) -> Snapshot:
    """Append what `decide` makes of the newest state, which may refer to files that are stored.

    `base` and `full` are as for `Chain.commit`. A chain that does not exist gets `first` as its entry 0.
    `check` looks at what the change refers to, by default its artifacts and segments. Raises NameRetired
    when some of it was condemned: store it again; InvalidState for a run that is collected; BackendError,
    Corrupt.
    """
    chain = Chain(repository.backend, prefix)
    base = chain.load() if base is None else base
    key, seen = secrets.token_hex(8), check or _look
    if not gc.is_open(base.state, repository.store_id) and base.state and not decide(base.state):
        return base
    while True:
        base = _opened(repository, chain, base, key, first or {})
        try:
            base = chain.commit(base, _Decided(repository, decide, key, seen), full=full)
        except _Closed:
            base = chain.load()
            continue
        repository.condemned.cover(prefix, base.number)
        return base


class _Closed(Exception):
    """The chain was closed by somebody else meanwhile."""


class _Decided:
    """What `decide` says, once it is sure that a collector knows of it in time."""

    def __init__(self, repository: Repository, decide: Decide, key: str, check: Check) -> None:
        self._repository, self._decide, self._key, self._check = repository, decide, key, check
        self._overtaken = False

    def __call__(self, state: State) -> State:
        if self._overtaken:
            self._repository.condemned.refresh(self._repository.backend)
            if not gc.is_open(state, self._repository.store_id):
                raise _Closed("it is closed")
        self._overtaken = True  # if it is asked again
        change = self._decide(state)
        if change and self._repository.condemned.collections:
            self._check(writable(self._repository), state, change)
        mine = self._key in state.get(gc.OPEN, {})
        return joined(change, {gc.OPEN: {self._key: None}}) if mine else change


def _opened(
    repository: Repository, chain: Chain, base: Snapshot, key: str, first: State
) -> Snapshot:
    """The chain, open, and the log read since."""
    opening: State = {gc.OPEN: {key: process.identity()}}

    def decide(state: State) -> State:
        if gc.is_open(state, repository.store_id):
            return {}
        return opening if state else joined(first, opening)

    base = chain.commit(base, decide)
    if not repository.condemned.covers(chain.prefix, base.number):
        repository.condemned.refresh(repository.backend)
        repository.condemned.cover(chain.prefix, base.number)
    return base


def _look(repository: Repository, state: State, change: State) -> None:
    """Is everything there that the change refers to, and to stay? Raises NameRetired."""
    run_id = {**state.get("run", {}), **change.get("run", {})}.get("run_id", "")
    for name, about in change.get("segments", {}).items():
        if about is not None:
            require_segment(repository, run_id, Digest(name))
    held = {about.get("digest") for about in state.get("artifacts", {}).values()}
    for about in change.get("artifacts", {}).values():
        if about is not None and about["digest"] not in held:  # else a collector has to spare it
            require_artifact(repository, about)


def require_segment(repository: Repository, run_id: str, digest: Digest) -> None:
    """Raises NameRetired."""
    name = layout.segment(run_id, digest)
    if repository.condemned.has(name):
        raise NameRetired(f"{name} is condemned: store it again", name=name)


def require_artifact(repository: Repository, about: dict[str, object]) -> None:
    """Raises NameRetired if a file of the artifact is not there for whoever sees `repository`."""
    lost = NameRetired(
        f"{about['digest']} was collected while it was stored: store it again", name=about["digest"]
    )
    try:
        files = reach.of_artifact(repository, about)
    except HoldfastError as error:  # the listing of a directory
        raise lost from error
    for digest, size in files.items():
        if not is_whole(repository.backend, digest, size):
            raise lost
