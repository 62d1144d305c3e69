"""From what a writer of a remote store was given to what the store shall have: packs where that pays.

A training script waits only until its artifact lies on this machine, as it is: an *original* of its outbox.
Before it is sent, it is stored here as a local store would store it, in the layout that was asked for and
against the versions that the remote store has. What comes of that is *ready* to be sent, under names that
stay the same however often the sending begins again. The originals go when all is in the store.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import verified
from holdfast.backend.over import OverBackend
from holdfast.digest import Digest
from holdfast.directories import Found
from holdfast.errors import ArtifactNotFound, Corrupt, NameNotFound
from holdfast.format import layout, manifest, tree
from holdfast.format.manifest import State
from holdfast.format.outbox import APPLIED, Pending, Wish
from holdfast.ops import artifacts, lineage
from holdfast.ops.ingest import Wanted, is_large
from holdfast.ops.lineage import Lineage
from holdfast.ops.sources import opened
from holdfast.outbox import Outbox
from holdfast.repository import Repository

About = dict[str, Any]  # what a manifest says of an artifact
Numbered = list[tuple[int, Pending]]


@dataclass(frozen=True, slots=True)
class Forward:
    """The work for one outbox."""

    repository: Repository
    outbox: Outbox

    def ready(self, pending: Numbered, known: State) -> tuple[Numbered, Corrupt | None]:
        """Make ready what the changes ask for: the changes, with what a manifest says of it, up to one
        whose original is damaged or lost; and that damage.

        `known` is the manifest of the run as the store has it. Raises BackendError.
        """
        chain, done = layout.manifest(self.outbox.owner.run_id), Numbered()
        applied = known.get(APPLIED, {}).get(self.outbox.owner.writer, -1)
        for number, one in pending:
            if number > applied and one.chain == chain:
                try:
                    one = self.change(one, known)
                except Corrupt as error:
                    return done, error
                known = manifest.apply(known, one.change)
            done.append((number, one))
        return done, None

    @property
    def made(self) -> Repository:
        """What is ready."""
        return replace(self.repository, backend=self.outbox.ready)

    @property
    def over(self) -> Repository:
        """Writes what is ready, and reads the store too."""
        near, far = self.outbox.ready, self.repository.backend
        return replace(self.repository, backend=OverBackend(near, far))

    def change(self, one: Pending, known: State) -> Pending:
        """The same change, with each of its artifacts ready."""
        if not one.wishes:
            return one
        abouts = dict(one.change["artifacts"])
        for key, wish in one.wishes.items():
            abouts[key] = self.artifact(key, abouts[key], wish, known)
        return replace(one, change={**one.change, "artifacts": abouts})

    def artifact(self, key: str, about: About, wish: Wish, known: State) -> About:
        """Make one artifact ready; what the manifest says of it."""
        wanted, digest = Wanted(wish.layout, wish.compact), Digest.parse(about["digest"])
        members = self.members(digest) if about["kind"] == "directory" else None
        if members is None:
            shared = is_large(about["size_bytes"], wanted)
        else:
            shared = artifacts.shares(members, wanted)
        past = self.lineage(key, wish, known) if shared else Lineage()
        if not self.is_ready(digest):
            self.make(digest, members, artifacts.How(wanted, lambda: past))
        return {**about, **(past.about() if shared else {})}

    def members(self, digest: Digest) -> list[Found]:
        """What is in a directory, with its originals for the files."""
        try:
            data = verified.read_blob(self.outbox.originals, digest)
        except NameNotFound as error:
            raise self.lost(digest) from error
        entries = tree.decode_tree(data, place=layout.blob(digest))
        return [
            Found(self.original(entry.digest), entry, entry.size_bytes or 0) for entry in entries
        ]

    def original(self, raw: bytes | None) -> Path:
        """Where the bytes of a digest wait; for a folder or a link, where nothing does."""
        root = Path(self.outbox.originals.root)
        return root if raw is None else root / layout.blob(Digest.from_raw(raw))

    def is_ready(self, digest: Digest) -> bool:
        """Whether an earlier try has made it: the recipe of a file, or the document of a directory, is
        the last thing that it made."""
        prefix, ready = layout.recipes(digest), self.outbox.ready
        names = [stat.name for stat in ready.walk(prefix.rpartition("/")[0] + "/")]
        is_document = artifacts.is_directory(self.made, digest)
        return is_document or any(name.startswith(prefix) for name in names)

    def make(self, digest: Digest, members: list[Found] | None, how: artifacts.How) -> None:
        """Store an artifact as a local store would, but for where it goes. Raises Corrupt."""
        try:
            if members is not None:
                made = artifacts.store_directory(self.over, members, None, how)
            else:
                one = replace(how, wanted=replace(how.wanted, expect=digest))
                with opened(self.original(digest.raw)) as source:
                    made = artifacts.store_one(self.over, source, "file", one, None)
        except FileNotFoundError as error:
            raise self.lost(digest) from error
        if made["digest"] != str(digest):
            raise Corrupt(
                f"{self.original(digest.raw)} is damaged: it was not sent",
                place=layout.blob(digest),
            )

    def lost(self, digest: Digest) -> Corrupt:
        place = str(self.original(digest.raw))
        return Corrupt(f"{place} is lost, or a file of it, before it was sent", place=place)

    def lineage(self, key: str, wish: Wish, known: State) -> Lineage:
        run_id = self.outbox.owner.run_id
        try:
            return lineage.find(self.over, run_id, key, wish.base, known)
        except ArtifactNotFound as error:
            logging.getLogger("holdfast").warning(
                "run %s: %s is stored without the base that was asked for: %s",
                run_id, key, error.message,
            )  # fmt: skip
            return lineage.find(self.over, run_id, key, None, known)
