"""From what a person types for a run to its id."""

from __future__ import annotations

from holdfast.chain import Snapshot
from holdfast.errors import RunNotFound
from holdfast.format import layout
from holdfast.names import check_id
from holdfast.repository import Repository


def find_run(repository: Repository, text: str) -> str:
    """The run whose id is `text`, or the only one that begins or ends with it.

    Raises RunNotFound; when several match, the message names some of them.
    """
    check_id("run id", text)
    if next(iter(repository.backend.walk(layout.manifest(text))), None) is not None:
        return text
    names = repository.backend.folders(layout.RUNS)
    found = [name for name in names if name.startswith(text) or name.endswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise RunNotFound(f"{text!r} could be any of {len(found)} runs: {some}", run_id=text)
    raise RunNotFound(f"there is no run {text!r} in {repository.backend.url}", run_id=text)


def load_run(repository: Repository, text: str) -> tuple[str, Snapshot]:
    """The run that `find_run` finds, and its manifest, by one listing where `text` is the whole id."""
    snapshot = repository.manifest(check_id("run id", text)).load()
    if snapshot.number >= 0:
        return text, snapshot
    run_id = find_run(repository, text)
    return run_id, repository.manifest(run_id).load()
