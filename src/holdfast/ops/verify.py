"""Reading everything that runs refer to, and saying what is damaged. Readers never write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from holdfast import verified
from holdfast.digest import Digest
from holdfast.errors import HoldfastError
from holdfast.format import layout
from holdfast.ops.artifacts import directory_entries
from holdfast.repository import Repository
from holdfast.series import RunPoints

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
    """Check every byte of one run, or of every experiment and run in the store."""
    findings: list[Finding] = []
    runs = [run_id] if run_id else repository.backend.folders(layout.RUNS)
    if run_id is None:
        for name in repository.backend.folders(layout.EXPERIMENTS):
            _try(findings, f"experiment {name}", repository.experiment(name).check)
    seen: set[str] = set()
    for number, name in enumerate(runs):
        if progress:
            progress(number, len(runs))
        findings += _verify_run(repository, name, seen)
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


def _verify_run(repository: Repository, run_id: str, seen: set[str]) -> list[Finding]:
    findings: list[Finding] = []
    affects = f"run {run_id}"
    _try(findings, affects, repository.manifest(run_id).check)
    points = _try(findings, affects, lambda: RunPoints.load(repository.backend, run_id))
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
        if about["kind"] != "record" and about["digest"] not in seen:
            broken = list(_verify_artifact(repository, about, f"{affects}, artifact {key}"))
            findings += broken
            if not broken:
                seen.add(about["digest"])
    return findings


def _read_segment(repository: Repository, place: str, digest: Digest, size_bytes: int) -> None:
    verified.read_file(repository.backend, place, digest, size_bytes)


def _verify_artifact(
    repository: Repository, about: dict[str, Any], affects: str
) -> Iterator[Finding]:
    findings: list[Finding] = []
    digest = Digest.parse(about["digest"])
    if about["kind"] == "directory":
        entries = _try(findings, affects, lambda: directory_entries(repository, digest)) or ()
        for entry in entries:
            if entry.digest is not None:
                piece = Digest.from_raw(entry.digest)
                place = f"{affects}, file {entry.path}"
                _try(findings, place, partial(_read, repository, piece, entry.size_bytes))
    else:
        _try(findings, affects, lambda: _read(repository, digest, about["size_bytes"]))
    yield from findings


def _read(repository: Repository, digest: Digest, size_bytes: int | None) -> None:
    def read() -> None:
        for _ in verified.stream_blob(repository.backend, digest, size_bytes):
            pass
        verified.load_recipe(repository.backend, digest)

    verified.again(read)
