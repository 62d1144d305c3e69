"""Moving aliases, and the names of snapshots: under a condition, and so that no collector takes away what
they name. See docs/format/alias.md."""

from __future__ import annotations

import time
from typing import Any, Final

from holdfast.chain import Chain
from holdfast.errors import AliasMoved, AliasNotFound, ArtifactNotFound, NameRetired
from holdfast.format import alias as names
from holdfast.format.alias import Target
from holdfast.format.manifest import State
from holdfast.ops import references
from holdfast.ops.aliases import Alias, alias_of, history
from holdfast.repository import Repository
from holdfast.timestamp import Timestamp

ANYTHING: Final = "*"  # `expect` when the caller does not care; no address looks like it


def move(
    repository: Repository, chain: Chain, name: str, to: Target | None, expect: Any = ANYTHING
) -> Alias:
    """Have it name `to`, or nothing, if it names what is expected: an address, None for nothing, or if it
    is at a generation.

    Raises AliasMoved when it does not, AliasNotFound when there is nothing to take away, ArtifactNotFound
    when a collector takes the artifact away just now.
    """
    at = time.time_ns()

    def decide(state: State) -> State:
        if to is None and names.generation(state) < 0:
            raise AliasNotFound(f"there is no alias {name!r}", name=name)
        _compare(state, name, expect)
        return names.moved(state, to, at)

    def check(seen: Repository, state: State, change: State) -> None:
        if to is not None and to.digest is not None:
            references.require_artifact(seen, to.about)

    decide(chain.load().state)  # before anything is written
    try:
        after = references.commit(
            repository, chain.prefix, decide, first=names.first(name, at), check=check
        )
    except NameRetired as error:
        raise ArtifactNotFound(
            f"{to} is being collected: alias {name!r} was not moved", digest=to and to.digest
        ) from error
    return alias_of(name, after.state) or Alias(name, to, 0, Timestamp(at))


def undo(repository: Repository, chain: Chain, name: str) -> Alias:
    """Have it name what it named before its newest move, which an undo is too. Raises AliasNotFound when
    nothing was moved, AliasMoved when somebody moves it meanwhile."""
    known = history(chain, name)
    if len(known) < 2:
        raise AliasNotFound(f"alias {name!r} was never moved: there is nothing to undo", name=name)
    return move(repository, chain, name, known[-2].target, known[-1].generation)


def _compare(state: State, name: str, expect: Any) -> None:
    """Raises AliasMoved unless the state is as expected."""
    found, number = names.target(state), names.generation(state)
    if type(expect) is int:
        fits = number == expect
    elif expect is None:
        fits = found is None
    else:
        fits = expect == ANYTHING or (found is not None and expect in (found.address, found.digest))
    if not fits:
        wanted = f"generation {expect}" if type(expect) is int else (expect or "nothing")
        at = f" (generation {number})" if number > 0 else ""
        raise AliasMoved(
            f"alias {name!r} names {found or 'nothing'}{at} and was expected to be at {wanted}: "
            "it was not moved; look again",
            name=name,
            expected=expect,
            found=found.address if found else None,
        )
