"""What an address names: a run, an artifact, or a file within one that is a directory.

See docs/reference/addresses.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from holdfast.catalog import Catalog
from holdfast.chain import Snapshot
from holdfast.digest import Digest
from holdfast.errors import (
    Ambiguous,
    ArtifactNotFound,
    ExperimentNotFound,
    InvalidValue,
    RunNotFound,
)
from holdfast.format import address
from holdfast.format.address import ALIAS, EXPERIMENT, LATEST, RUN, Address
from holdfast.format.alias import Target
from holdfast.ops import aliases, artifacts
from holdfast.ops.lookup import ambiguous, known_alias, known_run, load_run
from holdfast.ops.versions import Version, experiments_called, versions
from holdfast.repository import Repository
from holdfast.timestamp import Timestamp

T = TypeVar("T")
# A question to the catalog, which is brought up to date first.
Ask = Callable[[Callable[[Catalog], T]], T]
At = int | str | Timestamp | None  # a generation of an alias, or a time


def target(
    repository: Repository, ask: Ask[Any], text: str, key: str | None = None, at: At = None
) -> Target:
    """The run or the artifact at an address, with the alias in it as it was `at` a time or a generation.

    Raises InvalidValue, Ambiguous, RunNotFound, AliasNotFound, ArtifactNotFound.
    """
    found = address.parse(text, key)
    if found.digest is not None:
        return _bytes(repository, found.digest)
    if at is not None:
        return _within(repository, found, aliases.find(repository, found.scope, at))
    run = known_run(repository, found)
    # `read_artifact(run_id, key)`: a run is asked for, and this is its id.
    if run and key is not None:
        return _of_run(repository, found, *run)
    alias = known_alias(repository, found)
    made = _version(repository, ask, found)
    kinds = [kind for kind, one in ((RUN, run), (ALIAS, alias), (EXPERIMENT, made)) if one]
    if len(kinds) > 1:
        raise ambiguous(found, *kinds)
    if made:
        return made
    if alias:
        return _within(repository, found, alias)
    return _of_run(repository, found, *(run or _guessed(repository, ask, found)))


def artifact(
    repository: Repository, ask: Ask[Any], text: str, key: str | None = None, at: At = None
) -> Target:
    """The artifact at an address. Raises what `target` raises, and InvalidValue when it is a run."""
    found = target(repository, ask, text, key, at)
    if found.is_run:
        state = repository.manifest(str(found.run_id)).load().state
        raise InvalidValue(f"which artifact of {text}? It has {_keys(state)}", value=text)
    return found


def settled(repository: Repository, ask: Ask[Any], text: str) -> Target:
    """The same, to be kept: bytes that were named by their digest alone are told from directories."""
    found = target(repository, ask, text)
    if found.run_id is None and artifacts.is_directory(repository, Digest.parse(str(found.digest))):
        return replace(found, kind="directory")
    return found


def versions_of(ask: Ask[Any], experiment: str, key: str) -> list[Version]:
    """The versions of a key in an experiment, by its id or name. Raises ExperimentNotFound, Ambiguous."""
    known = ask(lambda catalog: experiments_called(catalog, experiment))
    if not known:
        raise ExperimentNotFound(f"there is no experiment {experiment!r}", experiment=experiment)
    if len(known) > 1:
        raise ambiguous_name(Address(scope=experiment, key=key), known)
    found: list[Version] = ask(lambda catalog: versions(catalog, known[0], key))
    return found


def _bytes(repository: Repository, digest: Digest) -> Target:
    about = artifacts.by_digest(repository, digest)
    return Target(digest=str(digest), size_bytes=about["size_bytes"], kind=about["kind"])


def _within(repository: Repository, found: Address, alias: Target) -> Target:
    """What an alias names, or KEY of it: an artifact of a run, or a file of a directory."""
    if found.key is None:
        return alias
    if alias.is_run:
        return _of_run(repository, found, *load_run(repository, f"runs/{alias.run_id}"))
    if alias.kind != "directory":
        raise InvalidValue(
            f"alias {found.scope!r} names the artifact {alias}, which is no directory: leave out "
            f"{':' + found.key!r}",
            value=str(found),
        )
    return _member(repository, alias, found.key)


def _of_run(repository: Repository, found: Address, run_id: str, manifest: Snapshot) -> Target:
    """A run, an artifact of it, or a file in a directory that it has. Raises ArtifactNotFound."""
    key, known = found.key, manifest.state.get("artifacts", {})
    if key is None:
        return Target(run_id)
    if key in known:
        return _named(run_id, key, known[key])
    for end in (at for at in range(len(key) - 1, 0, -1) if key[at] == "/"):
        if known.get(key[:end], {}).get("kind") == "directory":
            return _member(repository, _named(run_id, key[:end], known[key[:end]]), key[end + 1 :])
    raise ArtifactNotFound(
        f"run {run_id} has no artifact {key!r}; it has {_keys(manifest.state)}",
        run_id=run_id,
        key=key,
    )


def _named(run_id: str, key: str, about: Mapping[str, Any]) -> Target:
    return Target(run_id, key, about["digest"], about["size_bytes"], about["kind"])


def _keys(state: Mapping[str, Any]) -> str:
    return ", ".join(sorted(state.get("artifacts", {}))) or "none"


def _member(repository: Repository, directory: Target, path: str) -> Target:
    """A file in a directory artifact. Raises ArtifactNotFound."""
    for entry in artifacts.directory_entries(repository, Digest.parse(str(directory.digest))):
        if entry.path == path and entry.digest is not None:
            key = f"{directory.key}/{path}" if directory.key else None
            digest = str(Digest.from_raw(entry.digest))
            return Target(directory.run_id, key, digest, entry.size_bytes, "file")
    raise ArtifactNotFound(f"{directory} has no file {path!r} in it", key=path)


def _version(repository: Repository, ask: Ask[Any], found: Address) -> Target | None:
    """The version of a key that the address asks for, if the scope is an experiment. Raises
    ArtifactNotFound, Ambiguous."""
    if found.key is None or EXPERIMENT not in found.may_be:
        return None
    key, number, path = address.split_version(found.key)
    if number is None and found.kind is None:
        return None
    known = ask(lambda catalog: experiments_called(catalog, found.scope))
    if not known:
        return None
    if len(known) > 1:
        raise ambiguous_name(found, known)
    listed: list[Version] = ask(lambda catalog: versions(catalog, known[0], key))
    if number is None or not listed:
        raise _which(found, key, listed)
    chosen = listed[-1:] if number == LATEST else listed[number : number + 1]
    if not chosen:
        raise _which(found, key, listed)
    whole = chosen[0].target
    return _member(repository, whole, path) if path else whole


def ambiguous_name(found: Address, known: list[str]) -> Ambiguous:
    """The error for a name that several experiments have."""
    forms = [str(Address(scope=one, key=found.key, kind=EXPERIMENT)) for one in known]
    return Ambiguous(
        f"{len(known)} experiments are called {found.scope!r}: write {' or '.join(forms[:5])}",
        candidates=forms,
    )


def _which(found: Address, key: str, listed: list[Version]) -> ArtifactNotFound:
    newest = len(listed) - 1
    has = f"{key!r} as @latest or as @v0 to @v{newest}" if listed else f"no {key!r}"
    return ArtifactNotFound(f"experiment {found.scope!r} has {has}", key=key)


def _guessed(repository: Repository, ask: Ask[Any], found: Address) -> tuple[str, Snapshot]:
    """The only run whose id begins or ends so. Raises RunNotFound with what may have been meant."""
    if found.kind == EXPERIMENT:
        raise ArtifactNotFound(
            f"there is no experiment {found.scope!r} with such an artifact: write "
            f"experiments/{found.scope}:KEY@latest",
            key=found.key,
        )
    try:
        return load_run(repository, str(Address(scope=found.scope, kind=found.kind)))
    except RunNotFound as error:
        if "found" in error.details:
            raise
        raise RunNotFound(f"{error.message}{_hint(ask, found)}", **error.details) from None


def _hint(ask: Ask[Any], found: Address) -> str:
    if len(found.scope) == 64 and set(found.scope) <= set("0123456789abcdef"):
        return f": did you mean sha256:{found.scope}?"
    if found.kind is None and ask(lambda catalog: experiments_called(catalog, found.scope)):
        return f", but an experiment: write {found.scope}:{found.key or 'KEY'}@latest, or a version"
    return ", and no alias of that name"
