"""Aliases: names for runs and artifacts that can be moved, each move kept.

A name is a chain, so of two that move it at once one learns of the other. Names of snapshots are
chains of the same shape, and go through the same functions. See docs/format/alias.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.chain import Chain
from holdfast.errors import (
    AliasNotFound,
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


@dataclass(frozen=True, slots=True)
class Alias:
    """A name and what it named after one of its moves, which `generation` counts; `target` is None where it
    named nothing."""

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
    return alias_of(name, chain.load().state)


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
    """What it named after each of its moves, the first (nothing) first; [] if it never was."""
    newest = chain.load()
    states = (chain.load(range(n + 1)).state for n in range(newest.number + 1))
    found = {alias.generation: alias for state in states if (alias := alias_of(name, state))}
    return list(found.values())


def alias_of(name: str, state: State) -> Alias | None:
    """The alias in a state; None if the state is no name's."""
    number = names.generation(state)
    if number < 0:
        return None
    return Alias(name, names.target(state), number, Timestamp(names.moved_at(state)))


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
            alias = alias_of(name, chain.load(numbers).state)
        except (Corrupt, UnsupportedFormat) as error:
            problems.append(error)
            continue
        found += [alias] if alias and alias.target else []
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


def _missing(repository: Repository, name: str, at: object = None) -> AliasNotFound:
    when = "" if at is None else f" named anything at {at}"
    known = chain_of(repository, name).load().number >= 0
    message = f"alias {name!r} was deleted: `holdfast alias undo` brings it back"
    if at is not None:
        message = f"no alias {name!r}{when}"
    elif not known:
        message = f"there is no alias {name!r} in {repository.backend.url}"
    return AliasNotFound(message, name=name)
