"""repair: plan, show, execute. What fsck found is mended from whatever is whole, and nothing is deleted.

A plan says for each finding what would be done, or why nothing can be. Carrying it out checks again before
it touches a file, so it may be stopped at any moment and begun again, and two may run at once.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from holdfast.backend.cached import without_cache
from holdfast.errors import AccessDenied, HoldfastError, ReadOnly, StorageFull, Unavailable
from holdfast.format import kinds
from holdfast.ops import rebuild
from holdfast.ops.findings import CODES, Finding
from holdfast.ops.ways import ways
from holdfast.repository import Repository
from holdfast.work import Place, opened, spread, workers

# Nothing is to be done about these.
_LEFT_ALONE = {"orphan", "leftover", "foreign", "quarantined"}


@dataclass(frozen=True, slots=True)
class Action:
    """What would be done, or was done, about one finding: `how`; or `problem`: why nothing can be."""

    finding: Finding
    how: str = ""
    problem: str = ""

    @property
    def place(self) -> str:
        return self.finding.place


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a repair would do: `actions`, and what it cannot mend: `refused`."""

    actions: list[Action]
    refused: list[Action]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: `mended`, and what is left as it was: `refused`."""

    mended: list[Action] = field(default_factory=list)
    refused: list[Action] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Findings that are mended one after the other: those of one chain, or one file."""

    findings: tuple[Finding, ...]
    source: Place | None
    spools: bool


def plan(
    repository: Repository,
    findings: Iterable[Finding],
    source: Place | None = None,
    *,
    spools: bool = True,
) -> RepairPlan:
    """What would be done about these findings. Nothing is changed."""
    there = opened(source) if source else None
    actions, refused = [], []
    for one in findings:
        if one.code in _LEFT_ALONE or (one.code == "spool" and not spools):
            continue
        way = next(ways(repository, there, one, spools=spools), None)
        if way is not None:
            actions.append(Action(one, how=way.words))
        elif not one.harmless:
            refused.append(Action(one, problem=_refusal(one)))
    return RepairPlan(actions, refused)


def _refusal(finding: Finding, reasons: Iterable[str] = ()) -> str:
    """Why nothing can be done, whom it hurts, and what would help."""
    why = "; ".join(dict.fromkeys(reasons)) or "there is nothing to mend it from"
    return (
        f"{finding.place} cannot be mended: {why}. It affects {finding.affects}. What would help: "
        f"{CODES[finding.code].mend}"
    )


def execute(
    repository: Repository,
    planned: RepairPlan,
    source: Place | None = None,
    *,
    spools: bool = True,
    executor: str | Executor | None = None,
) -> Repaired:
    """Carry a plan out. What fails is tried again while anything else succeeds: it may rest on that.

    Raises ReadOnly, AccessDenied, StorageFull, Unavailable."""
    repository = replace(repository, backend=without_cache(repository.backend))
    todo = planned.actions
    mended, failed = list[Action](), list[Action]()
    with workers(repository, executor) as crew:
        while todo:
            failed, before = [], len(mended)
            pieces = _pieces([action.finding for action in todo], source, spools)
            for _, done in spread(repository, _mend, pieces, crew):
                mended += [one for one in done if not one.problem]
                failed += [one for one in done if one.problem]
            todo = failed if len(mended) > before else []
    key = lambda one: one.place  # noqa: E731
    return Repaired(sorted(mended, key=key), sorted([*planned.refused, *failed], key=key))


def _pieces(findings: list[Finding], source: Place | None, spools: bool) -> list[_Piece]:
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        is_entry = kinds.kind_of(one.place) == kinds.ENTRY
        groups.setdefault(one.place.rpartition("/")[0] if is_entry else one.place, []).append(one)
    return [
        _Piece(tuple(sorted(group, key=lambda one: one.place)), source, spools)
        for group in groups.values()
    ]


def _mend(repository: Repository, piece: _Piece) -> list[Action]:
    there = opened(piece.source) if piece.source else None
    return [_one(repository, there, one, piece.spools) for one in piece.findings]


def _one(
    repository: Repository, source: Repository | None, finding: Finding, spools: bool
) -> Action:
    digest = kinds.digest_of(finding.place)
    if digest and rebuild.is_whole(repository.backend, finding.place, digest):
        return Action(finding, how="it is whole now")
    reasons = []
    for way in ways(repository, source, finding, spools=spools):
        try:
            way.do()
            return Action(finding, how=way.words)
        except (AccessDenied, ReadOnly, StorageFull, Unavailable):
            raise
        except HoldfastError as error:
            reasons.append(error.message)
    return Action(finding, problem=_refusal(finding, reasons))


def place_of(repository: Repository) -> Place:
    """The source as a value, which other processes open."""
    return Place(repository.backend.url, pickle.dumps(dict(repository.options or {})), True)
