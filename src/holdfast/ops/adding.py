"""Storing artifacts and naming them in a run, as often as it takes: what is stored may be condemned before it
is named, and is stored anew then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

from holdfast.format import layout
from holdfast.ops import artifacts, references
from holdfast.ops.artifacts import How, Progress, Source
from holdfast.repository import Repository

T = TypeVar("T")


def storing(sources: Mapping[str, Source], work: Callable[[Mapping[str, Any]], T]) -> T:
    """What `work` returns, which stores the sources and names them; it may be called more than once."""
    with ExitStack() as stack:
        held = {key: stack.enter_context(artifacts.rereadable(sources[key])) for key in sources}
        return references.again(lambda: work(held))


def add(
    repository: Repository,
    run_id: str,
    key: str,
    source: Source,
    how: How,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Add an artifact to any run, open or ended; what its manifest says of it then."""

    def work(held: Mapping[str, Any]) -> dict[str, Any]:
        about = artifacts.store(references.writable(repository), held[key], progress, how)
        _name(repository, run_id, {key: about})
        return about

    return storing({key: source}, work)


def add_many(
    repository: Repository, run_id: str, sources: Mapping[str, Source], hows: Callable[[str], How]
) -> dict[str, Any]:
    """Add many, several at once; all of them or none."""

    def work(held: Mapping[str, Any]) -> dict[str, Any]:
        abouts = artifacts.store_many(references.writable(repository), held, hows)
        if abouts:
            _name(repository, run_id, abouts)
        return abouts

    return storing(sources, work)


def _name(repository: Repository, run_id: str, abouts: Mapping[str, Any]) -> None:
    change = {"artifacts": dict(abouts)}
    references.commit(repository, layout.manifest(run_id), lambda state: change)
