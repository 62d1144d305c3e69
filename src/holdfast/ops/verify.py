"""Reading everything that runs refer to, and saying what is damaged. Readers never write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from holdfast import absent, verified, verified_artifact
from holdfast.digest import Digest
from holdfast.errors import HoldfastError
from holdfast.format import layout
from holdfast.ops.artifacts import directory_entries
from holdfast.repository import Repository
from holdfast.series import RunPoints

Seen = dict[str, "Finding | None"]  # the blobs that were read, by hex digest
Progress = Callable[[int, int], None]  # (checked, all)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact that verify reports: what is wrong, where, and what it affects."""

    code: str
    place: str
    message: str
    affects: str


def verify(
    repository: Repository, run_id: str | None = None, progress: Progress | None = None
) -> list[Finding]:
    """Check every byte of one run; or of every experiment and run in the store, and of every blob,
    also of those that nothing refers to."""
    findings: list[Finding] = []
    runs = [run_id] if run_id else repository.backend.folders(layout.RUNS)
    if run_id is None:
        for name in repository.backend.folders(layout.EXPERIMENTS):
            _try(findings, f"experiment {name}", repository.experiment(name).check)
    seen: Seen = {}
    for number, name in enumerate(runs):
        if progress:
            progress(number, len(runs))
        findings += _verify_run(repository, name, seen)
    if run_id is None:
        findings += _verify_others(repository, seen)
    if progress:
        progress(len(runs), len(runs))
    return findings


def _try(findings: list[Finding], affects: str, check: Callable[[], Any]) -> Any:
    try:
        return check()
    except HoldfastError as error:
        place = error.details.get("place", "")
        findings.append(Finding(error.code, place, error.message, affects))
        return None


def _verify_run(repository: Repository, run_id: str, seen: Seen) -> list[Finding]:
    found = _check_run(repository, run_id, seen)
    return [
        one for one in found if not absent.explains(repository.backend, run_id, one.code, one.place)
    ]


def _check_run(repository: Repository, run_id: str, seen: Seen) -> list[Finding]:
    findings: list[Finding] = []
    affects = f"run {run_id}"
    _try(findings, affects, repository.manifest(run_id).check)
    for rank in repository.ranks(run_id):
        _try(findings, f"{affects}, rank {rank}", repository.rank(run_id, rank).check)
    points = _try(
        findings, affects, lambda: RunPoints.load(repository.backend, run_id, repository.spools)
    )
    if points is None or findings:
        return list(dict.fromkeys(findings))
    state = points.snapshot.state
    for name, about in state.get("segments", {}).items():
        digest, size = Digest(name), about["size_bytes"]
        place = layout.segment(run_id, digest)
        _try(findings, affects, partial(_read_segment, repository, place, digest, size))
    if not findings:
        for key in points.keys():
            _try(findings, f"{affects}, metric {key}", partial(points.series, key))
    for key, about in state.get("artifacts", {}).items():
        if about["kind"] != "record":
            findings += _verify_artifact(repository, about, f"{affects}, artifact {key}", seen)
    return findings


def _verify_others(repository: Repository, seen: Seen) -> list[Finding]:
    """What no run refers to: what is stored later may come to rest on it."""
    findings: list[Finding] = []
    for prefix in (layout.BLOBS, layout.RECIPES):
        for stat in repository.backend.walk(prefix):
            name = stat.name.rpartition("/")[2].partition(".")[0]
            if name not in seen:
                _once(repository, Digest(name), None, "no run", findings, seen)
    for stat in repository.backend.walk(layout.PACKS):
        digest = Digest(stat.name.rpartition("/")[2])
        check = partial(verified.check_file, repository.backend, stat.name, digest)
        _try(findings, "no run alone", check)
    return findings


def _read_segment(repository: Repository, place: str, digest: Digest, size_bytes: int) -> None:
    verified.read_file(repository.backend, place, digest, size_bytes)


def _verify_artifact(
    repository: Repository, about: dict[str, Any], affects: str, seen: Seen
) -> list[Finding]:
    findings: list[Finding] = []
    digest = Digest.parse(about["digest"])
    size = about["size_bytes"] if about["kind"] != "directory" else None
    _once(repository, digest, size, affects, findings, seen)
    if about["kind"] == "directory" and not findings:
        entries = _try(findings, affects, lambda: directory_entries(repository, digest)) or ()
        for entry in entries:
            if entry.digest is not None:
                piece, place = Digest.from_raw(entry.digest), f"{affects}, file {entry.path}"
                _once(repository, piece, entry.size_bytes, place, findings, seen)
    return findings


def _once(
    repository: Repository,
    digest: Digest,
    size: int | None,
    affects: str,
    findings: list[Finding],
    seen: Seen,
) -> None:
    """Read a blob, once; what is wrong with it is told for each that needs it."""
    if digest.hex not in seen:
        found: list[Finding] = []
        _try(found, affects, partial(_read, repository, digest, size))
        seen[digest.hex] = found[0] if found else None
    damage = seen[digest.hex]
    if damage:
        findings.append(replace(damage, affects=affects))


def _read(repository: Repository, digest: Digest, size_bytes: int | None) -> None:
    """Read a blob, and hold its recipe, if it has one, against the same bytes."""
    verified.again(lambda: verified_artifact.check(repository.backend, digest, size_bytes))
