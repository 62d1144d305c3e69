"""What fsck reports: findings as values, and what each code means and would mend it.

Where a check runs nobody knows yet who needs the damaged file, so a check gives a `Found`, with the digests
of the artifacts that it hurts; `Finding` names their runs. docs/reference/findings.md has the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from holdfast.errors import (
    AccessDenied,
    BackendError,
    Corrupt,
    DigestMismatch,
    HoldfastError,
    NameNotFound,
    NotSynced,
    Unavailable,
    UnsupportedFormat,
)


@dataclass(frozen=True, slots=True)
class Code:
    """What a finding of this code means, and what would mend it. What is `harmless` loses nothing."""

    meaning: str
    mend: str
    harmless: bool = False


_COPY = "`holdfast repair --from` another store that has it"
CODES = {
    "digest_mismatch": Code(
        "The bytes of a file, or of a chunk in it, do not have the digest that names them.",
        f"`holdfast repair`, if the store has the artifact in another form too; {_COPY}; or move the "
        "file away and store the same bytes again",
    ),
    "unlinked": Code(
        "An entry of a chain does not carry the sha256 of the one before it: two histories were mixed.",
        "keep both stores, and copy the entries of the right one by hand",
    ),
    "gap": Code("A chain lacks an entry between others.", _COPY),
    "missing": Code("Something refers to a file that is not there.", _COPY),
    "corrupt": Code(
        "A file cannot be decoded, or its checksum does not match.",
        f"{_COPY}; a damaged spool: `holdfast recover --salvage` keeps what is whole",
    ),
    "size": Code("A file is shorter than its kind can be, or not as long as was recorded.", _COPY),
    "mismatch": Code(
        "Two files that are whole do not fit together: a recipe points beside a chunk, or a segment is "
        "another one than the manifest says.",
        "`holdfast repair` drops a recipe that can be written again; "
        f"of what has no other form: {_COPY}",
    ),
    "statistics": Code(
        "What a manifest says of a metric is not what its points say.",
        "report it: the points are whole, and only lists and filters show the wrong number",
    ),
    "unsupported": Code(
        "A newer Holdfast wrote the file, or its version byte is damaged.",
        f"upgrade Holdfast; if that is no help, {_COPY}",
    ),
    "unreadable": Code("The storage reports an error for this file.", _COPY),
    "not_as_signed": Code(
        "An entry of a chain is missing, or is not the one that a signed snapshot names.",
        "find out who changed the store; " + _COPY,
    ),
    "torn": Code(
        "A spool ends in bytes that are no whole record: its writer died in a write, or they are damaged.",
        "`holdfast recover` seals what is whole; or, for the rest, " + _COPY,
        harmless=True,
    ),
    "spool": Code(
        "A process that is gone left a spool: its points are read, but not sealed.",
        "`holdfast recover`, or `holdfast repair`",
        harmless=True,
    ),
    "head": Code(
        "The heads do not show the newest entry of a chain: catalogs may notice a change late.",
        "`holdfast repair` writes the head again",
        harmless=True,
    ),
    "head_damaged": Code(
        "A head has other bytes than a head has. Nobody reads them, but something wrote them.",
        "`holdfast repair` writes the head again",
        harmless=True,
    ),
    "not_synced": Code(
        "A file that was left out when its run was synced into this store.",
        "`holdfast pull` from the store that the message names",
        harmless=True,
    ),
    "orphan": Code(
        "Nothing refers to the file: what a crash or a removed run left. It was checked like any other.",
        "nothing to mend; `holdfast gc` removes it",
        harmless=True,
    ),
    "leftover": Code(
        "A temporary file, or a try of the storage, that a process which was killed left behind.",
        "nothing to mend; remove it when nobody writes to the store",
        harmless=True,
    ),
    "foreign": Code(
        "A name that no page of the format defines: somebody else's file.",
        "nothing to mend; move it out of the store",
        harmless=True,
    ),
    "quarantined": Code(
        "A damaged file that was moved out of the way.",
        "nothing to mend; remove it when nobody needs to look at it any more",
        harmless=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact that fsck reports: what is wrong, where, and what it affects.

    `runs` are the ids of the runs that need what is damaged, `artifacts` are `run_id:key`, `others` names such
    as `alias prod`; `affects` says the same for people. `mend` says what would help."""

    code: str
    place: str
    message: str
    affects: str
    mend: str = ""
    runs: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        """True if something refers to what is damaged."""
        return bool(self.runs or self.others)

    @property
    def harmless(self) -> bool:
        """True if nothing is lost or hidden by it."""
        return CODES[self.code].harmless


@dataclass(frozen=True, slots=True)
class User:
    """Who needs something: a run, or its artifact `key`, or one file of a directory; or an `other` chain,
    such as `alias prod`."""

    run_id: str
    key: str = ""
    path: str = ""
    other: str = ""

    def __str__(self) -> str:
        parts = [f"run {self.run_id}" if self.run_id else self.other]
        parts += [f"artifact {self.key}"] if self.key else []
        parts += [f"file {self.path}"] if self.path else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding before it is known who needs what is damaged: the `digests` of artifacts, and `users`.

    `what` says what is affected where that is no run."""

    code: str
    place: str
    message: str
    digests: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    what: str = "no run"


@contextmanager
def telling(
    found: list[Found], *, place: str = "", users: Iterable[User] = (), what: str = "no run"
) -> Iterator[None]:
    """Turn the error of a check into a `Found`. What says that the store cannot be asked goes on up; what
    was left out by a sync is nothing."""
    try:
        yield
    except (AccessDenied, Unavailable):
        raise
    except NotSynced:
        return
    except HoldfastError as error:
        at = error.details.get("place") or error.details.get("name") or place
        found.append(Found(code_of(error), at, error.message, users=tuple(users), what=what))


def code_of(error: HoldfastError) -> str:
    """The code of the finding that an error is."""
    if isinstance(error, DigestMismatch):
        return "digest_mismatch"
    if isinstance(error, NotSynced):
        return "not_synced"
    if isinstance(error, UnsupportedFormat):
        return "unsupported"
    if isinstance(error, NameNotFound) or isinstance(error.__cause__, NameNotFound):
        return "missing"
    return (
        "unreadable"
        if isinstance(error, BackendError) and not isinstance(error, Corrupt)
        else "corrupt"
    )


def twice(check: Callable[[], list[Found]]) -> list[Found]:
    """What a check finds; if anything, only what it finds again. The fault may have lain between the disk
    and us, and others write to the store meanwhile."""
    first = check()
    if not first:
        return first
    again = {(one.code, one.place) for one in check()}
    return [one for one in first if (one.code, one.place) in again]


_ORDER = list(CODES)


def resolved(found: Iterable[Found], users: Mapping[str, Iterable[User]]) -> list[Finding]:
    """One finding for each file, by place; `users` are those of each artifact, by hex digest."""
    places: dict[str, list[Found]] = {}
    for one in found:
        key = one.place if not CODES[one.code].harmless else f"{one.place} {one.code}"
        places.setdefault(key, []).append(one)
    return [_joined(places[place], users) for place in sorted(places)]


def _joined(found: list[Found], users: Mapping[str, Iterable[User]]) -> Finding:
    """What was found of one file as one finding, with the gravest code."""
    worst = min(found, key=lambda one: _ORDER.index(one.code))
    who = [user for one in found for user in one.users]
    who += [user for one in found for digest in one.digests for user in users.get(digest, ())]
    who = sorted(set(who), key=lambda user: (user.other, user.run_id, user.key, user.path))
    whole = Finding(worst.code, worst.place, worst.message, worst.what, CODES[worst.code].mend)
    if not who:
        return whole
    return replace(
        whole,
        affects=_listed([str(user) for user in who]),
        runs=tuple(dict.fromkeys(user.run_id for user in who if user.run_id)),
        artifacts=tuple(dict.fromkeys(f"{u.run_id}:{u.key}" for u in who if u.key)),
        others=tuple(dict.fromkeys(user.other for user in who if user.other)),
    )


def _listed(names: list[str]) -> str:
    few = "; ".join(names[:3])
    return few if len(names) <= 3 else f"{few}; and {len(names) - 3} more"
