"""A run that both sides changed, brought in as a new run beside the one that is there.

Its id follows from the first entry that the other side does not have, so a second time finds the same run,
and brings it up to what the source has by then. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.backend.base import Backend
from holdfast.backend.wrap import WatchedBackend
from holdfast.chain import Chain
from holdfast.format import layout
from holdfast.format.manifest import CONFIG, State
from holdfast.ops.sync_chains import Divergence

_REFERENCES = ("segments", "metrics", "artifacts", "checkpoints")  # not in entry 0
_MOST_BYTES = 108  # of the run's id in that of its fork


@dataclass(frozen=True, slots=True)
class Fork:
    """`states` are what the chains of the new run shall say, by prefix, its manifest first."""

    run_id: str
    origin: str
    states: Mapping[str, State]


def forked(source: Backend, run_id: str, splits: list[Divergence]) -> Fork:
    """The fork that the source's side of a run makes. Raises Corrupt."""
    split = splits[0]
    _, tip = Chain(source, split.chain).read(split.common + 1)
    short = run_id.encode()[:_MOST_BYTES].decode(errors="ignore").rstrip(". ")
    name = f"{short}-fork-{tip.hex()[:8]}"
    parent = {"run_id": run_id, "generation": split.common}
    main = Chain(source, layout.manifest(run_id)).load().state
    states = {layout.manifest(name): _named(main, {"run_id": name, "parent": parent})}
    for rank in sorted(source.folders(layout.ranks(run_id))):
        if (number := layout.rank_number(rank)) is not None:
            state = Chain(source, layout.rank(run_id, number)).load().state
            states[layout.rank(name, number)] = _named(state, {"run_id": name})
    return Fork(name, run_id, states)


def _named(state: State, about: dict[str, Any]) -> State:
    return {**state, "run": {**state.get("run", {}), **about}}


def is_there(target: Backend, fork: Fork) -> bool:
    """Does the target have the fork as the source would make it now?"""
    return all(Chain(target, prefix).load().state == state for prefix, state in fork.states.items())


def publish(target: Backend, fork: Fork) -> int:
    """Write the chains of the fork; returns how many entries were created. Its files are in the target."""
    created = 0
    for prefix, state in fork.states.items():
        chain = Chain(target, prefix)
        before = now = chain.load()
        if now.number < 0:
            first = {k: keys for k, keys in state.items() if k not in _REFERENCES}
            founding = Chain(_Headless(target, lambda *_: None), prefix)
            now = founding.commit(now, lambda known, first=first: {} if known else first)  # type: ignore[misc]
        now = chain.commit(now, lambda known, state=state: _difference(known, state))  # type: ignore[misc]
        created += now.number - before.number
    return created


class _Headless(WatchedBackend):
    """A backend that leaves hints out: no head may tell of a run before its first entry is there."""

    def put(self, name: str, data: bytes) -> None:
        return None


def _difference(known: State, wanted: State) -> State:
    """The change that makes one state of the other."""
    change: State = {}
    for section in known.keys() | wanted.keys():
        old, new = known.get(section, {}), wanted.get(section, {})
        keys = {key: value for key, value in new.items() if key not in old or old[key] != value}
        gone = {} if section == CONFIG else dict.fromkeys(old.keys() - new.keys())
        if keys or gone:
            change[section] = {**keys, **gone}
    return change
