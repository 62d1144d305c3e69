"""From what a person types for a run to its id."""

from __future__ import annotations

import re

from holdfast.chain import Snapshot
from holdfast.errors import AliasNotFound, Ambiguous, InvalidValue, RunNotFound
from holdfast.format import address, layout
from holdfast.format.address import ALIAS, RUN, Address
from holdfast.format.alias import Target
from holdfast.ops import aliases
from holdfast.repository import Repository

# The ids that Holdfast gives: nobody calls an alias so, so nobody is asked whether there is one.
_GIVEN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-z]{6}\Z")


def find_run(repository: Repository, text: str) -> str:
    """The run whose id is `text`, the one that the alias `text` names, or the only one whose id begins or
    ends with it.

    Raises RunNotFound; Ambiguous when several match, with their addresses.
    """
    return load_run(repository, text)[0]


def load_run(repository: Repository, text: str) -> tuple[str, Snapshot]:
    """The run that `find_run` finds, and its manifest; one listing for an id that Holdfast gave."""
    found = address.parse(text)
    if found.key is not None or found.digest is not None:
        raise InvalidValue(f"{text} is an artifact: name a run here", value=text)
    run = known_run(repository, found)
    alias = known_alias(repository, found)
    if run and alias:
        raise ambiguous(found, RUN, ALIAS)
    if alias:
        return _of_alias(repository, found, alias)
    return run or _by_part(repository, found)


def known_run(repository: Repository, found: Address) -> tuple[str, Snapshot] | None:
    """The run with exactly that id, and its manifest."""
    if RUN not in found.may_be:
        return None
    snapshot = repository.manifest(found.scope).load()
    return (found.scope, snapshot) if snapshot.number >= 0 else None


def known_alias(repository: Repository, found: Address) -> Target | None:
    """What the alias of exactly that name names. Raises AliasNotFound when it can be nothing else."""
    if ALIAS not in found.may_be or (not found.kind and _GIVEN.match(found.scope)):
        return None
    try:
        return aliases.find(repository, found.scope)
    except AliasNotFound:
        if found.may_be == (ALIAS,):
            raise
    except InvalidValue:
        pass  # the id of a run that could be no alias
    return None


def _of_alias(repository: Repository, found: Address, alias: Target) -> tuple[str, Snapshot]:
    if not alias.is_run or alias.run_id is None:
        raise InvalidValue(
            f"alias {found.scope!r} names the artifact {alias}: name a run here", value=found.scope
        )
    snapshot = repository.manifest(alias.run_id).load()
    if snapshot.number < 0:
        raise RunNotFound(
            f"alias {found.scope!r} names run {alias.run_id}, which is not in "
            f"{repository.backend.url}",
            run_id=alias.run_id,
        )
    return alias.run_id, snapshot


def _by_part(repository: Repository, found: Address) -> tuple[str, Snapshot]:
    """The only run whose id begins or ends with the text. Raises RunNotFound, Ambiguous."""
    text = found.scope
    names = repository.backend.folders(layout.RUNS)
    near = [name for name in names if name.startswith(text) or name.endswith(text)]
    if len(near) == 1:
        return near[0], repository.manifest(near[0]).load()
    if near:
        some = ", ".join(near[:5]) + (", …" if len(near) > 5 else "")
        raise RunNotFound(
            f"{text!r} could be any of {len(near)} runs: {some}", run_id=text, found=near
        )
    raise RunNotFound(f"there is no run {text!r} in {repository.backend.url}", run_id=text)


def ambiguous(found: Address, *kinds: str) -> Ambiguous:
    """The error for a name that is several things."""
    words = {RUN: "a run", ALIAS: "an alias", address.EXPERIMENT: "an experiment"}
    forms = [str(Address(scope=found.scope, key=found.key, kind=kind)) for kind in kinds]
    return Ambiguous(
        f"{found.scope!r} is {' and '.join(words[kind] for kind in kinds)}: write "
        f"{' or '.join(forms)}",
        candidates=forms,
    )
