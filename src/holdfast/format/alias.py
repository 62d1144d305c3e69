"""The state of an alias or of a snapshot's name: what it names now. See docs/format/alias.md.

Entry 0 of such a chain names nothing, since no entry 0 may hold a reference. The generation of a name counts
its moves; the chain has entries besides, such as those that open it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from holdfast.format.manifest import State

ALIAS, TARGET = "alias", "target"  # the sections


@dataclass(frozen=True, slots=True)
class Target:
    """A run (`run_id` alone), an artifact of a run (all five), or bytes by their digest (the last three)."""

    run_id: str | None = None
    key: str | None = None
    digest: str | None = None
    size_bytes: int | None = None
    kind: str | None = None

    @property
    def is_run(self) -> bool:
        return self.digest is None

    @property
    def address(self) -> str:
        """What it is called without the alias: `RUN`, `RUN:KEY` or `sha256:…`."""
        if self.run_id is None:
            return str(self.digest)
        return self.run_id if self.key is None else f"{self.run_id}:{self.key}"

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest says of the artifact."""
        return {"digest": self.digest, "size_bytes": self.size_bytes, "kind": self.kind}

    def __str__(self) -> str:
        return self.address


def first(name: str, at: int) -> State:
    """The state of a name that names nothing yet."""
    return {ALIAS: {"name": name, "generation": 0, "moved_at": at}}


def generation(state: State) -> int:
    """How often the name was moved; -1 if it never was a name."""
    found: int = state.get(ALIAS, {}).get("generation", -1)
    return found


def moved_at(state: State) -> int:
    """When it was moved last, in ns."""
    found: int = state.get(ALIAS, {}).get("moved_at", 0)
    return found


def target(state: State) -> Target | None:
    """What a state names; None if it names nothing, or nothing that this version understands."""
    about: dict[str, Any] = state.get(TARGET, {})
    digest, run_id = about.get("digest"), about.get("run_id")
    if digest is None and run_id is None:
        return None
    return Target(run_id, about.get("key"), digest, about.get("size_bytes"), about.get("kind"))


def moved(state: State, to: Target | None, at: int) -> State:
    """The change after which a state names `to`; {} if it does already."""
    after = {} if to is None else {k: v for k, v in asdict(to).items() if v is not None}
    before = state.get(TARGET, {})
    if before == after:
        return {}
    gone = dict.fromkeys(before.keys() - after.keys())
    count = {"generation": generation(state) + 1, "moved_at": at}
    return {ALIAS: count, TARGET: {**gone, **after}}
