"""What a sync relies on in the target, said there before it refers to it: a chain under syncs/.

Collectors take what an open chain names as live. See docs/format/gc.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from holdfast import process
from holdfast.chain import EMPTY, Chain
from holdfast.digest import Digest
from holdfast.errors import InvalidState, NameExists, NameRetired
from holdfast.format import gc, layout
from holdfast.format.gc import Names
from holdfast.format.manifest import State
from holdfast.repository import Repository


class Hold:
    """One sync into a target, from its first look there to its last entry."""

    def __init__(self, target: Repository, source_id: str) -> None:
        """Begin: what collectors have condemned is known after that. Entry 0 holds no reference."""
        self._target = target
        self._id = secrets.token_hex(16)
        self._chain = Chain(target.backend, layout.sync(self._id))
        about = {"source": source_id, "identity": process.identity()}
        self._state = self._chain.commit(EMPTY, lambda _: {gc.SYNC: about})
        target.condemned.refresh(target.backend)

    def add(self, names: Collection[str]) -> None:
        """Rely on these files, all of which are there, until the sync is closed. Raises NameRetired if
        some were condemned since they were looked at: they must be stored anew."""
        if not names:
            return
        data = gc.encode_names(Names.of(names))
        digest = Digest.of(data)
        try:
            self._target.backend.create(gc.held(self._id, digest), data)
        except NameExists:
            return  # they are held already
        overtaken = False

        def decide(state: State) -> State:
            nonlocal overtaken
            self._check_open(state)
            if overtaken:  # by a collector: what it condemned must not be relied on
                self._look(names)
            overtaken = True
            return {gc.HOLDS: {digest.hex: len(names)}}

        self._state = self._chain.commit(self._state, decide)

    def _look(self, names: Collection[str]) -> None:
        condemned = self._target.condemned
        condemned.refresh(self._target.backend)
        for name in names:
            if condemned.has(name):
                raise NameRetired(f"{name} was collected while the sync went on", name=name)

    def _check_open(self, state: State) -> None:
        if state.get(gc.SYNC, {}).get("closed"):
            raise InvalidState(
                f"this sync into {self._target.backend.url} was ended by somebody else: begin it again"
            )

    def close(self) -> None:
        """Everything that was relied on is referred to."""
        self._state = self._chain.commit(self._state, lambda _: {gc.SYNC: {"closed": True}})
