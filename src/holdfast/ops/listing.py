"""What the heads of a store say, listed as that is cheapest: a bucket is asked once for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from holdfast.backend.base import Backend, Stat
from holdfast.format import layout

_HEAD = re.compile(r"^(.+)@([0-9]{8})$", re.MULTILINE)  # the last part of a head's name
_RANK = re.compile(r"[0-9]+")


class Listing:
    """The heads as they are when they are first asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # On a disk each folder is one call, and the names are all that it reads.
        self.by_folder = backend.capabilities.append

    def runs(self) -> dict[str, str]:
        """By run: the number in the newest head of its manifest, 8 digits."""
        return _newest(self._names(layout.RUN_HEADS))

    def ranks(self) -> dict[str, dict[int, int]]:
        """By run: the newest numbers of its ranks."""
        ranks: dict[str, dict[int, int]] = {}
        for owner, number in _newest(self._names(layout.RANK_HEADS)).items():
            run_id, _, rank = owner.rpartition("@")
            if run_id and _RANK.fullmatch(rank):
                ranks.setdefault(run_id, {})[int(rank)] = int(number)
        return ranks

    def experiments(self) -> dict[str, str]:
        """By experiment: the number in its newest head, 8 digits."""
        return _newest(self._names(layout.EXPERIMENT_HEADS))

    def beat(self, head: str) -> Stat | None:
        """The head of that name, if the listing told its time."""
        return None if self.by_folder else self._stats.get(head)

    @cached_property
    def _stats(self) -> dict[str, Stat]:
        return {stat.name: stat for stat in self._backend.walk(layout.HEADS)}

    def _names(self, folder: str) -> Iterable[str]:
        if self.by_folder:
            return self._backend.names(folder)
        return [name[len(folder) :] for name in self._stats if name.startswith(folder)]


def _newest(names: Iterable[str]) -> dict[str, str]:
    """The greatest number, 8 digits, of each owner among the last parts of heads."""
    # In order, so that the last one of an owner counts; in one search, for there may be very many.
    return dict(_HEAD.findall("\n".join(sorted(names))))
