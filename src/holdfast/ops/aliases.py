"""Aliases: names for runs and artifacts that can be moved, each move kept.

A name is a chain, so of two that move it at once one learns of the other. Names of snapshots are
chains of the same shape, and go through the same functions. See docs/format/alias.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from holdfast.backend.base import Backend
from holdfast.chain import Chain, Snapshot
from holdfast.condemned import Condemned
from holdfast.digest import Digest
from holdfast.errors import (
    AliasMoved,
    AliasNotFound,
    ArtifactNotFound,
    Corrupt,
    HoldfastError,
    InvalidValue,
    UnsupportedFormat,
)
from holdfast.format import alias as names
from holdfast.format import layout
from holdfast.format.alias import Target
from holdfast.format.manifest import State
from holdfast.names import check_alias
from holdfast.repository import Repository
from holdfast.timestamp import Timestamp
from holdfast.verified_artifact import is_whole

ANYTHING: Final = "*"  # `expect` when the caller does not care; no address looks like it


@dataclass(frozen=True, slots=True)
class Alias:
    """A name and what it named after one of its moves; `target` is None where it named nothing."""

    name: str
    target: Target | None
    generation: int
    moved_at: Timestamp

    @property
    def address(self) -> str | None:
        """What it names without the alias: `RUN`, `RUN:KEY` or `sha256:…`; None for nothing."""
        return self.target.address if self.target else None


def chain_of(repository: Repository, name: str) -> Chain:
    """Raises InvalidValue for what cannot be the name of an alias."""
    return Chain(repository.backend, layout.alias(check_alias("alias", name)))


def refuse_run(repository: Repository, name: str) -> None:
    """Raises InvalidValue for the id of a run: a name that is two things serves nobody."""
    chain_of(repository, name)
    if "/" not in name and repository.manifest(name).load().number >= 0:
        raise InvalidValue(
            f"alias {name!r} would have the id of a run: choose another name", value=name
        )


def find(repository: Repository, name: str, at: int | str | Timestamp | None = None) -> Target:
    """What an alias names, or named `at` a time or a generation. Raises AliasNotFound, Corrupt."""
    chain = chain_of(repository, name)
    found = names.target(chain.load().state) if at is None else then(chain, name, at).target
    if found is None:
        raise _missing(repository, name, at)
    return found


def current(chain: Chain, name: str) -> Alias | None:
    """The alias as it is now, named something or not; None if it never was. Raises Corrupt."""
    snapshot = chain.load()
    return None if snapshot.number < 0 else _alias(chain, name, snapshot)


def then(chain: Chain, name: str, at: int | str | Timestamp) -> Alias:
    """The alias as it was at a generation or a time. Raises AliasNotFound, Corrupt."""
    until = None if isinstance(at, int) else Timestamp.from_any(at)
    # By the newest whose clock said so, as the page has it: clocks may go back.
    found = [
        one
        for one in history(chain, name)
        if (one.generation == at if until is None else one.moved_at <= until)
    ]
    if not found:
        when = f"generation {at}" if until is None else f"entry from {until} or before"
        raise AliasNotFound(f"alias {name!r} has no {when}: its history tells which", name=name)
    return found[-1]


def history(chain: Chain, name: str) -> list[Alias]:
    """Every state it ever had, the first (which named nothing) first; [] if it never was. Raises Corrupt."""
    newest = chain.load()
    return [_alias(chain, name, chain.load(range(n + 1))) for n in range(newest.number + 1)]


def _alias(chain: Chain, name: str, snapshot: Snapshot) -> Alias:
    entry, _ = chain.read(snapshot.number)
    return Alias(name, names.target(snapshot.state), snapshot.number, Timestamp(entry.at))


def everything(repository: Repository, under: str = "") -> tuple[list[Alias], list[HoldfastError]]:
    """The aliases that name something, by name, and what is wrong with those that cannot be read.

    With `under`, that one and those below it: `prod` and `prod/resnet`.
    """
    prefix = layout.alias(check_alias("alias", under)) if under else layout.ALIASES
    return listed(repository, layout.ALIASES, prefix)


def listed(
    repository: Repository, folder: str, prefix: str
) -> tuple[list[Alias], list[HoldfastError]]:
    """The names below `prefix` in `folder` that name something, and what is wrong with the others."""
    found: list[Alias] = []
    problems: list[HoldfastError] = []
    for chain, numbers in chains_under(repository, prefix):
        name = chain.prefix[len(folder) : -1]
        try:
            alias = _alias(chain, name, chain.load(numbers))
        except (Corrupt, UnsupportedFormat) as error:
            problems.append(error)
            continue
        found += [alias] if alias.target else []
    return sorted(found, key=lambda alias: alias.name), problems


def chains_under(repository: Repository, prefix: str) -> Iterator[tuple[Chain, list[int]]]:
    """Every chain whose entries lie anywhere below `prefix`, and their numbers, by one listing."""
    numbers: dict[str, list[int]] = {}
    for stat in repository.backend.walk(prefix):
        number = layout.entry_number(stat.name)
        if number is not None:
            numbers.setdefault(stat.name[:-8], []).append(number)
    for found, listed in numbers.items():
        yield Chain(repository.backend, found), listed


def move(chain: Chain, name: str, to: Target | None, expect: Any = ANYTHING) -> Alias:
    """Have it name `to`, or nothing, if it names what is expected: an address, None for nothing, or if it
    is at a generation.

    Raises AliasMoved when it does not, AliasNotFound when there is nothing to take away.
    """
    base = chain.load()
    if base.number < 0 and to is None:
        raise AliasNotFound(f"there is no alias {name!r}", name=name)
    if base.number < 0:
        _compare(base.state, name, expect, base.number)
        base = chain.commit(base, lambda state: {} if state else names.first(name))
        expect = 0 if type(expect) is int else expect
    return _moved(chain, name, base, to, expect)


def undo(chain: Chain, name: str) -> Alias:
    """Have it name what it named before its newest move, which an undo is too. Raises AliasNotFound when
    nothing was moved, AliasMoved when somebody moves it meanwhile."""
    base = chain.load()
    now = names.target(base.state)
    for number in range(base.number - 1, -1, -1):  # an entry may have moved nothing
        before = names.target(chain.load(range(number + 1)).state)
        if before != now:
            return _moved(chain, name, base, before, base.number)
    raise AliasNotFound(f"alias {name!r} was never moved: there is nothing to undo", name=name)


def _moved(chain: Chain, name: str, base: Snapshot, to: Target | None, expect: Any) -> Alias:
    number: int | None = base.number

    def decide(state: State) -> State:
        nonlocal number
        _compare(state, name, expect, number)
        number = None  # if we are asked again, somebody was quicker
        return names.moved(state, to)

    after = chain.commit(base, decide)
    if to is not None and is_condemned(chain.backend, to):
        chain.commit(after, lambda state: names.moved(state, names.target(base.state)))
        raise ArtifactNotFound(
            f"{to} is being collected, so {name!r} cannot name it", name=name, digest=to.digest
        )
    return _alias(chain, name, after)


def is_condemned(backend: Backend, to: Target) -> bool:
    """Is what a name names now on its way out? Asked after the name names it: what is condemned later
    stays for the sake of the name, and what was condemned before is known now."""
    condemned = Condemned.load(backend)
    if not condemned.collections:
        return False
    if to.digest is None:
        return condemned.has(layout.entry(layout.manifest(str(to.run_id)), 0))
    return not is_whole(condemned.view(backend), Digest.parse(to.digest))


def _compare(state: State, name: str, expect: Any, number: int | None) -> None:
    """Raises AliasMoved unless the state, after entry `number`, is as expected."""
    found = names.target(state)
    if type(expect) is int:
        fits = number == expect
    elif expect is None:
        fits = found is None
    else:
        fits = expect == ANYTHING or (found is not None and expect in (found.address, found.digest))
    if not fits:
        wanted = f"generation {expect}" if type(expect) is int else (expect or "nothing")
        at = "" if number is None else f" (generation {number})"
        raise AliasMoved(
            f"alias {name!r} names {found or 'nothing'}{at} and was expected to be at {wanted}: "
            "it was not moved; look again",
            name=name,
            expected=expect,
            found=found.address if found else None,
        )


def _missing(repository: Repository, name: str, at: object = None) -> AliasNotFound:
    when = "" if at is None else f" named anything at {at}"
    known = chain_of(repository, name).load().number >= 0
    message = f"alias {name!r} was deleted: `holdfast alias undo` brings it back"
    if at is not None:
        message = f"no alias {name!r}{when}"
    elif not known:
        message = f"there is no alias {name!r} in {repository.backend.url}"
    return AliasNotFound(message, name=name)
