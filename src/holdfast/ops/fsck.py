"""fsck: is everything in a store as it was written, and is everything there? It only reads.

    names      one listing, and the newest state of every run: are all files there that they need?
    structure  every chain entry, recipe, index of a pack and of a segment; do they fit together?
    bytes      every byte against its digest, every chunk decoded, every series and its statistics

Each depth does what those before it do. With a `Sample` all names are checked, and one part of the rest.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from holdfast import absent
from holdfast.backend.cached import without_cache
from holdfast.digest import Digest
from holdfast.errors import HoldfastError, InvalidValue
from holdfast.format import kinds, layout
from holdfast.ops import fsck_chunks, fsck_data, fsck_names, fsck_runs
from holdfast.ops.findings import Finding, Found, User, resolved
from holdfast.ops.fsck_data import FilePiece, Made
from holdfast.ops.fsck_names import Fresh, Listing
from holdfast.ops.fsck_progress import Progress, key_of
from holdfast.ops.fsck_runs import Needs, RunPiece
from holdfast.repository import Repository
from holdfast.work import Workers, spread, workers

DEPTHS = ("names", "structure", "bytes")
_PIECE_BYTES = 64 << 20
_PIECE_FILES = 256
_DAY_SECONDS = 86_400

Tell = Callable[[int, int], None]  # (bytes checked, all)


@dataclass(frozen=True, slots=True)
class Sample:
    """Part `part` of `parts`, counted from 0: the files whose digest falls into it."""

    part: int = 0
    parts: int = 1

    @classmethod
    def parse(cls, text: str, part: int | None = None) -> Sample:
        """`1/64` is one part of 64: the one of the day, so that 64 days cover all, or `part`.

        Raises InvalidValue."""
        found = re.fullmatch(r"1/([1-9][0-9]{0,5})", text)
        if not found:
            raise InvalidValue(f"{text!r} is no sample: write it as 1/64", value=text)
        parts = int(found[1])
        if part is not None and not 0 <= part < parts:
            raise InvalidValue(f"part {part}: the parts of {text} are 0 to {parts - 1}", value=part)
        return cls(int(time.time() // _DAY_SECONDS) % parts if part is None else part, parts)

    def has(self, name: str) -> bool:
        """Does a file, a chain or a run belong to it?"""
        digest = kinds.digest_of(name)
        known = digest.hex if digest else hashlib.sha256(name.encode()).hexdigest()
        return int(known[:16], 16) % self.parts == self.part


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, by place. `findings` are damage, `notes` are harmless."""

    depth: str
    sample: Sample
    findings: list[Finding]
    notes: list[Finding]
    files: int  # that there are
    checked_bytes: int
    resumed_bytes: int = 0  # those of them that an earlier check had done


@dataclass(slots=True)
class _Task:
    """One kind of work: pieces for a job, and how many bytes each reads."""

    job: Callable[[Repository, Any], list[Found]]
    pieces: list[Any]
    weight: Callable[[Any], int] = lambda piece: 0


def fsck(
    repository: Repository,
    depth: str = "bytes",
    *,
    run_id: str | None = None,
    sample: Sample = Sample(),
    executor: str | Executor | None = None,
    resume: bool = False,
    progress: Tell = lambda done, total: None,
) -> Report:
    """Check the whole store, or what one run needs. With `resume` it goes on where an earlier check of this
    kind was stopped. Raises InvalidValue, Unavailable, AccessDenied."""
    if depth not in DEPTHS:
        raise InvalidValue(f"depth {depth!r}: give {', '.join(DEPTHS)}", value=depth)
    repository = replace(repository, backend=without_cache(repository.backend))
    kind = f"{repository.store_id} {repository.backend.url} {depth} {sample} {run_id}"
    noted = Progress.of(kind) if resume else Progress()
    with workers(repository, executor) as crew:
        check = _Check(repository, crew, depth, run_id, sample, noted, progress)
        ended = False
        try:
            check.all()
            ended = True
        finally:
            noted.close(ended=ended)
    findings = resolved(check.found, check.users)
    return Report(
        depth,
        sample,
        [one for one in findings if not one.harmless],
        [one for one in findings if one.harmless],
        len(check.listing.sizes),
        check.done_bytes,
        check.resumed_bytes,
    )


class _Check:
    """One check while it goes on."""

    def __init__(
        self,
        repository: Repository,
        crew: Workers,
        depth: str,
        run_id: str | None,
        sample: Sample,
        noted: Progress,
        tell: Tell,
    ) -> None:
        self.repository, self.crew, self.depth = repository, crew, depth
        self.run_id, self.sample, self.noted, self.tell = run_id, sample, noted, tell
        self.found: list[Found] = []
        self.users: dict[str, list[User]] = {}  # of artifacts, by hex digest
        self.done_bytes = self.resumed_bytes = 0

    def all(self) -> None:
        """The names first, since they say who needs what; then the files, as deep as is asked for."""
        self.listing = Listing.of(self.repository)
        names = [self.run_id] if self.run_id else self.listing.runs()
        runs = [self._piece(self.listing, name) for name in names]
        self.wanted = set(self._needed(runs))
        if self.run_id is None:
            self.found += fsck_names.check(self.listing)
            self.found += fsck_data.store(self.repository)
            self.found += fsck_data.log(self.repository)
            with suppress(HoldfastError):  # which is told just above
                self.repository.condemned.refresh(self.repository.backend)
            self.wanted = set(self.listing.sizes)
        made = list(self._recipes())
        self.wanted |= {home for one in made for home in one.homes}
        if self.depth == "names":
            return
        if self.run_id is None:
            self.found += self._orphans(made)
        tasks = [*self._chains(runs), *self._files(made)]
        self._carry_out(tasks)

    def _piece(self, listing: Listing | Fresh, run_id: str) -> RunPiece:
        return RunPiece(run_id, listing.chains_of(run_id))

    def _needed(self, runs: list[RunPiece]) -> Iterator[str]:
        """The names of all files that the newest states of runs, and of aliases, need; recipes included."""
        fresh = Fresh(self.repository)
        for piece, needs in spread(self.repository, fsck_runs.needs, runs, self.crew):
            if _missing(self.listing, needs):  # or it came, or went, since the listing
                needs = fsck_runs.needs(self.repository, self._piece(fresh, piece.run_id))
                needs.found += self._left_out(needs.run_id, _missing(fresh, needs))
            yield from self._note(needs)
        for chain in [] if self.run_id else self.listing.chains:
            if chain.startswith((layout.ALIASES, layout.SNAPSHOTS)):
                needs = fsck_runs.pinned(self.repository, chain)
                needs.found += _missing(fresh, needs) if _missing(self.listing, needs) else []
                yield from self._note(needs)

    def _note(self, needs: Needs) -> Iterator[str]:
        self.found += needs.found
        for digest, users in needs.users.items():
            self.users.setdefault(digest, []).extend(users)
        yield from needs.segments
        for digest in needs.sizes:
            yield layout.blob(Digest(digest))
            yield from self.listing.recipes_of(digest)

    def _left_out(self, run_id: str, found: list[Found]) -> Iterator[Found]:
        """The same, where a sync noted that a missing file was not brought here as that."""
        note = absent.load(self.repository.backend, run_id) if found else absent.Absent()
        for one in found:
            if one.code == "missing" and note.has(one.place):
                message = f"{one.place} was not synced into this store: it came from {note.source}"
                one = replace(one, code="not_synced", message=message)
            yield one

    def _recipes(self) -> Iterator[Made]:
        """Recipes in short, by names alone those of artifacts without a blob. What is wrong with one is
        found, and so are the files that it names in vain."""
        shallow = self.depth == "names"
        names = [
            name for name in self.listing.of_kind[kinds.RECIPE]
            if name in self.wanted
            and not (shallow and layout.blob(kinds.artifact_of(name)) in self.listing.sizes)
        ]  # fmt: skip
        groups = fsck_data.grouped(names, self.listing.sizes, _PIECE_BYTES, _PIECE_FILES)
        job = fsck_data.shallow_recipes if shallow else fsck_data.recipes
        for _, results in spread(self.repository, job, groups, self.crew):
            for made, found in results:
                self.found += found
                if made is not None:
                    self.found += self._in_vain(made)
                    yield made

    def _in_vain(self, made: Made) -> Iterator[Found]:
        for home in made.homes:
            if self._is_void(made, home):
                continue
            if self.listing.size(home) is None and Fresh(self.repository).size(home) is None:
                message = f"{home} is missing from the store: {made.name} points into it"
                yield Found("missing", home, message, (made.artifact,))

    def _is_void(self, made: Made, home: str) -> bool:
        """Was the file taken by a collector, since nothing needs the artifact, or it has another form? Then
        the recipe is next."""
        if self.listing.size(home) is not None or not self.repository.condemned.has(home):
            return False
        others = set(self.listing.recipes_of(made.artifact)) - {made.name}
        plain = self.listing.size(layout.blob(Digest(made.artifact)))
        return made.artifact not in self.users or bool(others) or plain is not None

    def _orphans(self, made: list[Made]) -> Iterator[Found]:
        """Blobs, packs and recipes that no newest state of a run needs, directly or through recipes."""
        live = {layout.blob(Digest(digest)) for digest in self.users}
        for one in made:
            if one.artifact in self.users:
                live |= {one.name, *one.homes}
        for kind in (kinds.BLOB, kinds.PACK, kinds.RECIPE):
            for name in self.listing.of_kind[kind]:
                if name not in live:
                    yield Found("orphan", name, f"no run refers to {name}")

    def _chains(self, runs: list[RunPiece]) -> Iterator[_Task]:
        """The work on runs, and on all other chains."""
        chosen = [piece for piece in runs if self.sample.has(layout.run(piece.run_id))]
        sizes = self.listing.segment_bytes() if self.depth == "bytes" else {}
        job = fsck_runs.every_byte if self.depth == "bytes" else fsck_runs.structure
        yield _Task(job, chosen, lambda piece: sizes.get(piece.run_id, 0))
        if self.run_id is None:
            others = [c for c in self.listing.chains if not c.startswith(layout.RUNS)]
            yield _Task(fsck_runs.other_chain, [c for c in others if self.sample.has(c)])

    def _files(self, made: list[Made]) -> Iterator[_Task]:
        """The work on blobs, packs and heads; that on recipes is done."""
        if self.depth == "structure":
            yield _Task(fsck_data.indices, self._groups(kinds.PACK))
            return
        yield _Task(fsck_data.heads, self._groups(kinds.HEAD))
        yield _Task(fsck_data.signatures, self._groups(kinds.SIGNATURE))
        yield _Task(fsck_data.documents, self._groups(kinds.NAMES))
        recipes = self._groups(kinds.RECIPE)
        bundles = [tuple(filter(kinds.is_bundle, group)) for group in recipes]
        yield _Task(fsck_data.bundles, list(filter(None, bundles)))
        makers: dict[str, list[str]] = {}
        for one in made:
            for home in one.homes:
                makers.setdefault(home, []).append(one.name)
        files = [FilePiece(group, ()) for group in self._groups(kinds.PACK)]
        files += [
            FilePiece(group, tuple(tuple(makers.get(name, ())) for name in group))
            for group in self._groups(kinds.BLOB)
        ]
        sizes = self.listing.sizes
        yield _Task(fsck_data.every_byte, files, lambda p: sum(sizes[name] for name in p.names))
        chunks = fsck_chunks.pieces(made, self.sample.part, self.sample.parts)
        yield _Task(fsck_chunks.every_chunk, chunks, lambda piece: piece.stored_bytes)

    def _groups(self, kind: str) -> list[tuple[str, ...]]:
        found = self.listing.of_kind[kind]
        names = [name for name in found if name in self.wanted and self.sample.has(name)]
        return list(fsck_data.grouped(names, self.listing.sizes, _PIECE_BYTES, _PIECE_FILES))

    def _carry_out(self, tasks: list[_Task]) -> None:
        """Do what was not done before."""
        total = sum(task.weight(piece) for task in tasks for piece in task.pieces)
        for task in tasks:
            keys = {piece: key_of(task.job.__name__, piece) for piece in task.pieces}
            todo = [piece for piece, key in keys.items() if key not in self.noted.done]
            before = self.done_bytes
            self.done_bytes += sum(map(task.weight, task.pieces)) - sum(map(task.weight, todo))
            self.resumed_bytes += self.done_bytes - before
            for piece, found in spread(self.repository, task.job, todo, self.crew):
                self.found += found
                self.done_bytes += task.weight(piece)
                self.tell(self.done_bytes, total)
                if not found:
                    self.noted.add(keys[piece])


def _missing(look: Listing | Fresh, needs: Needs) -> list[Found]:
    """Files that a run needs and that are not there, or not as long as it says."""
    found = []
    user = (User(needs.run_id),)
    for name, size in needs.segments.items():
        if (have := look.size(name)) != size:
            found.append(_not_there(name, have, size, (), user))
    for digest, want in needs.sizes.items():
        name = layout.blob(Digest(digest))
        have = look.size(name)
        lost = have is None and all(map(kinds.is_bundle, look.recipes_of(digest)))
        if lost or (have is not None and want is not None and have != want):
            found.append(_not_there(name, have, want or 0, (digest,), ()))
    return found


def _not_there(
    name: str, have: int | None, want: int, digests: tuple[str, ...], users: tuple[User, ...]
) -> Found:
    if have is None:
        return Found("missing", name, f"{name} is missing from the store", digests, users)
    message = f"{name} is damaged: it is {have} bytes long and should be {want}"
    return Found("size", name, message, digests, users)
