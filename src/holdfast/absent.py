"""What was left out when runs were synced into this store: not here, and yet no damage.

    note      says in a run's chain under absent/ what is not here, or has come
    load      what is noted of every run, or of one
    refuse    raises NotSynced for a missing file that is noted

Nobody reads the notes before a file was found missing. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.backend.base import Backend
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import NotSynced
from holdfast.format import layout
from holdfast.format.manifest import State


@dataclass(frozen=True, slots=True)
class Absent:
    """What of one run is not here: sizes by the hex digest of artifacts and segments; `source` is the URL
    of the store that the run came from."""

    source: str = ""
    artifacts: Mapping[str, int] = field(default_factory=dict)
    segments: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.artifacts or self.segments)

    def has(self, name: str) -> bool:
        """Is the file of that name (a blob, a recipe or a segment) one of them?"""
        hex_ = name.rpartition("/")[2].partition(".")[0]
        return hex_ in self.artifacts or hex_ in self.segments


def load(backend: Backend, run_id: str) -> Absent:
    """What is noted of a run. Raises Corrupt."""
    return _read(Chain(backend, layout.absent(run_id)).load().state)


def runs(backend: Backend) -> list[str]:
    """The runs of which something was noted."""
    return backend.folders(layout.ABSENT)


def _read(state: State) -> Absent:
    source = state.get("source", {}).get("url", "")
    return Absent(source, state.get("artifacts", {}), state.get("segments", {}))


def note(
    backend: Backend, run_id: str, source: Mapping[str, str], missing: Absent, present: set[str]
) -> Absent:
    """Add `missing` to the note of a run, and take what is in `present` (hex digests) from it."""

    def decide(state: State) -> State:
        change: State = {}
        for section, more in (("artifacts", missing.artifacts), ("segments", missing.segments)):
            known = state.get(section, {})
            new = {hex_: size for hex_, size in more.items() if hex_ not in known}
            change[section] = {**new, **dict.fromkeys(present & known.keys())}
        changed = {section: keys for section, keys in change.items() if keys}
        return {**changed, "source": dict(source)} if changed else {}

    chain = Chain(backend, layout.absent(run_id))
    before = chain.load()
    if before.number < 0 and not missing:
        return Absent()
    return _read(chain.commit(before, decide, full=True).state)


def refuse(backend: Backend, digest: Digest, run_id: str | None = None) -> None:
    """Raise NotSynced if the note of that run, or of any, has the artifact or segment; for a file that is
    missing."""
    for name in runs(backend) if run_id is None else [run_id]:
        found = load(backend, name)
        if digest.hex in found.artifacts or digest.hex in found.segments:
            raise not_synced(name, found, digest)


def not_synced(run_id: str, found: Absent, digest: Digest) -> NotSynced:
    """What to say of a file that is noted."""
    return NotSynced(
        f"{digest} of run {run_id} was not synced into this store: it came from {found.source}; "
        f"`holdfast pull {found.source}` brings what is missing",
        digest=str(digest),
        run_id=run_id,
        source=found.source,
    )
