"""What a sync relies on in the target, said there before it refers to it: a chain under syncs/."""

from __future__ import annotations

import secrets

from holdfast import process
from holdfast.backend.base import Backend
from holdfast.chain import EMPTY, Chain
from holdfast.format import layout


class Hold:
    """One sync into a target, from its first look there to its last entry."""

    def __init__(self, target: Backend, source_id: str) -> None:
        """Begin. Entry 0 holds no reference."""
        self._chain = Chain(target, layout.sync(secrets.token_hex(16)))
        about = {"source": source_id, "identity": process.identity()}
        self._state = self._chain.commit(EMPTY, lambda _: {"sync": about})

    def close(self) -> None:
        """Everything that was relied on is referred to."""
        self._chain.commit(self._state, lambda _: {"sync": {"closed": True}})
