"""From what a writer of a remote store was given to what the store shall have: packs where that pays.

A training script waits only until its artifact lies on this machine, as it is: an *original* of its outbox.
Before it is sent, it is stored here as a local store would store it, in the layout that was asked for and
against the versions that the remote store has. What comes of that is *ready* to be sent, under names that
stay the same however often the sending begins again. The originals go when all is in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import blobs, verified, verified_artifact
from holdfast.backend.over import OverBackend
from holdfast.digest import Digest
from holdfast.errors import ArtifactNotFound, Corrupt
from holdfast.format import layout, manifest, tree
from holdfast.format.manifest import State
from holdfast.format.outbox import APPLIED, Pending, Wish
from holdfast.ops import lineage
from holdfast.ops.ingest import Stored, Wanted, is_large, put
from holdfast.ops.lineage import Lineage, Stock
from holdfast.ops.sources import opened
from holdfast.ops.window import Window
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

    def originals(self, pending: Numbered) -> list[str]:
        """The names of the originals that these changes are about, and of their recipes."""
        digests = set()
        for _, one in pending:
            for about in map(one.change.get("artifacts", {}).__getitem__, one.wishes):
                digests |= {Digest.parse(about["digest"]).hex}
                digests |= {digest.hex for _, digest, _ in self.files(about)}
        names = [stat.name for stat in self.outbox.originals.walk("")]
        return [name for name in names if name.rpartition("/")[2].partition(".")[0] in digests]

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
        wanted, is_directory = Wanted(wish.layout, wish.compact), about["kind"] == "directory"
        files = list(self.files(about))
        large = any(is_large(size, wanted) for _, _, size in files)
        past = self.lineage(key, wish, known) if large else Lineage()
        stock = Stock(self.over, past, is_directory=is_directory)
        for path, digest, size in files:
            window = stock.file(path) if is_directory else stock.whole()
            stored = self.file(digest, size, window, wanted)
            if is_directory and stored and stored.recipe:
                stock.window.add(stored.recipe)
        if is_directory:
            blobs.put_bytes(self.outbox.ready, self.tree(about))
        return {**about, **(past.about() if large else {})}

    def files(self, about: About) -> Iterator[tuple[str, Digest, int]]:
        """(path, digest, size in bytes) of each file of an artifact."""
        digest = Digest.parse(about["digest"])
        if about["kind"] != "directory":
            yield "", digest, about["size_bytes"]
            return
        for entry in tree.decode_tree(self.tree(about), place=layout.blob(digest)):
            if entry.digest:
                yield entry.path, Digest.from_raw(entry.digest), entry.size_bytes or 0

    def tree(self, about: About) -> bytes:
        """The bytes of a directory artifact."""
        either = OverBackend(self.outbox.originals, self.repository.backend)
        return verified.read_blob(either, Digest.parse(about["digest"]))

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

    def file(self, digest: Digest, size: int, window: Window, wanted: Wanted) -> Stored | None:
        """Make one file ready; None if an earlier try has done it, or the store has it."""
        path = Path(self.outbox.originals.root, layout.blob(digest))
        if not path.exists():
            self._check_sent(digest, size)
            return None
        if any(_of(self.outbox, digest)):
            return None
        with opened(path) as source:
            stored = put(self.over.backend, source, window, replace(wanted, expect=digest))
        if stored.digest != digest:
            raise Corrupt(f"{path} is damaged: it was not sent", place=str(path))
        return stored

    def _check_sent(self, digest: Digest, size: int) -> None:
        """An original that is gone was sent for another key of the same bytes. Raises Corrupt."""
        if not verified_artifact.layouts(self.over.backend, digest, size):
            place = f"{self.outbox.originals.root}/{layout.blob(digest)}"
            raise Corrupt(f"{place} is lost before it was sent", place=place)


def _of(outbox: Outbox, digest: Digest) -> Iterator[str]:
    """The recipes of an artifact that are ready: the last thing that is made."""
    prefix = layout.recipes(digest)
    for stat in outbox.ready.walk(prefix.rpartition("/")[0] + "/"):
        if stat.name.startswith(prefix):
            yield stat.name
