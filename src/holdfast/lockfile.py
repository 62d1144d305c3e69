"""Lock files: which bytes a project needs, kept beside its code, brought from any store that has them.

lock = LockFile("holdfast.lock")
lock.add(store, "resnet", "prod/resnet")     # once; commit the file
lock.get("resnet", to="models/resnet.pt")    # in the job: exactly those bytes, or an error
"""

from __future__ import annotations

import hashlib
import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from holdfast.errors import (
    AccessDenied,
    ArtifactNotFound,
    Corrupt,
    DigestMismatch,
    HoldfastError,
    NotAStore,
    NotFound,
    Unavailable,
    UnsupportedFormat,
)
from holdfast.format import lockfile as text
from holdfast.format.lockfile import Locked
from holdfast.names import check_key
from holdfast.ops.handle import Progress, StoredArtifact
from holdfast.store import ExperimentStore

NAME = "holdfast.lock"
T = TypeVar("T")
# What another store may do better.
_OF_THE_STORE = (Corrupt, NotFound, NotAStore, Unavailable, AccessDenied, UnsupportedFormat)
Stores = Sequence["str | os.PathLike[str] | ExperimentStore"] | None


@dataclass(frozen=True, slots=True)
class Checked:
    """One artifact of a lock file, and why no store has it; None if one does, read to its last byte."""

    locked: Locked
    problem: HoldfastError | None


class LockFile:
    """The artifacts of a lock file by name; none while there is no file.

    `stores` are where to look for the bytes, in this order: URLs or open stores; by default, for
    each artifact the store that it was locked from. A directory is relative to the lock file.
    Raises InvalidValue for a file that is no lock file.
    """

    def __init__(self, path: str | os.PathLike[str] = NAME, *, stores: Stores = None) -> None:
        self.path = Path(path)
        self.stores = stores
        self._text = self._read_text()
        self._entries = text.parse(self._text or text.HEAD, place=str(self.path))

    def __getitem__(self, name: str) -> Locked:
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self._entries) or "nothing"
            raise NotFound(f"{self.path} has no {name!r}; it has {known}", name=name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    # Keeping it.

    def add(self, store: ExperimentStore, name: str, address: str) -> Locked:
        """Lock what is at an address now under `name`, in place of what that names; the file is written.

        Raises InvalidValue, ArtifactNotFound and what `store.artifact` raises.
        """
        check_key("name in the lock file", name)
        found = store.settled(address)
        locked = Locked(
            name,
            address,
            self._place_of(store),
            found.digest,
            int(found.size_bytes or 0),
            found.kind,
            found.run_id,
            found.key,
        )
        self._write(text.put(self._text, locked, place=str(self.path)))
        return locked

    def remove(self, name: str) -> None:
        """Take a name out. Raises NotFound."""
        self[name]
        self._write(text.remove(self._text, name, place=str(self.path)))

    def _place_of(self, store: ExperimentStore) -> str:
        """The URL of a store, or the way to its directory from the lock file."""
        if "://" in store.url:
            return store.url
        return Path(os.path.relpath(store.url, self.path.absolute().parent)).as_posix()

    def _read_text(self) -> str:
        with suppress(FileNotFoundError):
            return self.path.read_text(encoding="utf-8")
        return ""

    def _write(self, new: str) -> None:
        """Written beside and renamed, so that nobody ever sees a part of it."""
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        try:
            beside.write_text(new, encoding="utf-8", newline="")
            os.replace(beside, self.path)
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()
        self._text, self._entries = new, text.parse(new, place=str(self.path))

    # Getting what it says.

    def get(
        self,
        name: str,
        to: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write the artifact to `to` (by default its name, beside the lock file): exactly the locked bytes.

        What is there already and right is left alone, and no store is opened. Raises Exists,
        DigestMismatch with the name, the expected and the found digest, ArtifactNotFound.
        """
        locked = self[name]
        target = self.path.parent / name if to is None else Path(to)
        if locked.kind != "directory" and target.is_file() and _digest(target) == locked.digest.hex:
            return target

        def write(found: StoredArtifact) -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            # By its whole name: a target that is a directory is in the way, and not where it goes.
            return found.write(target, overwrite=overwrite, progress=progress)

        return self._from_any(locked, write)

    def read(self, name: str) -> bytes:
        """All bytes of the artifact. Raises what `get` raises."""
        return self._from_any(self[name], lambda found: found.read())

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The artifact as a seekable, read-only file, whose store is open meanwhile; every piece is verified
        before it is handed out. Raises what `get` raises."""
        with ExitStack() as stack:
            yield self._from_any(self[name], lambda found: found.open(), stack)

    def check(
        self, names: Iterable[str] | None = None, progress: Progress | None = None
    ) -> list[Checked]:
        """Read every byte of the artifacts (all, without `names`) in the first store that has them."""
        found = []
        chosen = [self[name] for name in (self if names is None else names)]
        for number, locked in enumerate(chosen):
            if progress:
                progress(number, len(chosen))
            found.append(Checked(locked, self._problem(locked)))
        return found

    def _problem(self, locked: Locked) -> HoldfastError | None:
        try:
            self._from_any(locked, lambda found: found.check())
        except HoldfastError as error:
            return error
        return None

    def _from_any(
        self, locked: Locked, act: Callable[[StoredArtifact], T], stack: ExitStack | None = None
    ) -> T:
        """What `act` makes of the artifact in the first store that has it whole."""
        problems: list[tuple[str, HoldfastError]] = []
        for place in self.stores or [self._resolved(locked.store)]:
            where = place.url if isinstance(place, ExperimentStore) else os.fspath(place)
            try:
                with ExitStack() as own:
                    store = _opened(place, stack or own)
                    found = StoredArtifact.of(store.repository, locked.target)
                    found.require()
                    made = act(found)
            except _OF_THE_STORE as error:
                problems.append((where, error))
            else:
                for other, problem in problems:
                    if isinstance(problem, Corrupt):
                        warnings.warn(f"{locked.name}: {_said(other, problem)}", stacklevel=3)
                return made
        raise _failure(locked, problems)

    def _resolved(self, store: str) -> str:
        return store if "://" in store else str(self.path.parent / store)


def _opened(place: str | os.PathLike[str] | ExperimentStore, stack: ExitStack) -> ExperimentStore:
    if isinstance(place, ExperimentStore):
        return place
    return stack.enter_context(ExperimentStore(place, create=False, read_only=True))


def _said(where: str, error: HoldfastError) -> str:
    if isinstance(error, DigestMismatch) and error.details.get("found"):
        return f"{where} has other bytes ({error.place}): found {error.found}"
    if isinstance(error, ArtifactNotFound):
        return f"{where} has it not"
    return f"{where}: {error.message}"


def _failure(locked: Locked, problems: list[tuple[str, HoldfastError]]) -> HoldfastError:
    """One error for all stores: damage is worse than absence."""
    told = "; ".join(_said(where, error) for where, error in problems)
    message = f"{locked.name}: expected {locked.digest} ({locked.size_bytes} bytes); {told}"
    errors = [error for _, error in problems]
    worst = max(
        errors, key=lambda error: (isinstance(error, DigestMismatch), isinstance(error, Corrupt))
    )
    details = {**worst.details, "name": locked.name, "expected": str(locked.digest)}
    return type(worst)(message, **details)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
