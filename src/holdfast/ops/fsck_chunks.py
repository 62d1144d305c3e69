"""fsck of the chunks in packs: each is decoded once and compared with its id.

Recipes say of each chunk where it lies and which bases it needs. The chunks of recipes that share files are
a forest: a chunk hangs below its first base. It is walked from its roots down, so that a base is decoded
once for all that need it, and no more is held than one way down.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.format.recipe import Chunk
from holdfast.ops.findings import Found, telling
from holdfast.ops.fsck_data import Made, load
from holdfast.repository import Repository
from holdfast.verified_chunks import decoded, home_of

_HELD_BYTES = 64 << 20  # of chunks that were decoded as the second base of another
_ROOTS_BYTES = 32 << 20  # of stored chunks in one piece of work, about

Node = tuple[str, int]  # (file, offset): where a chunk lies


@dataclass(frozen=True, slots=True)
class ChunkPiece:
    """Some trees of the forest that `recipes` make: those whose root falls into part `part` of `parts`,
    and within that into `share` of `shares`."""

    recipes: tuple[str, ...]
    part: int
    parts: int
    share: int
    shares: int
    stored_bytes: int


def pieces(made: Iterable[Made], part: int, parts: int) -> list[ChunkPiece]:
    """The work on all chunks in packs, or on one part of so many."""
    found = []
    for family in _families([one for one in made if any("packs/" in h for h in one.homes)]):
        stored = sum(one.stored_bytes for one in family) // parts
        shares = max(1, stored // _ROOTS_BYTES)
        names = tuple(sorted(one.name for one in family))
        found += [
            ChunkPiece(names, part, parts, share, shares, stored // shares)
            for share in range(shares)
        ]
    return found


def _families(made: list[Made]) -> list[list[Made]]:
    """Recipes that share a pack, directly or through others, together."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for one in made:
        for home in one.homes:
            leader[find(home)] = find(one.name)
    families: dict[str, list[Made]] = defaultdict(list)
    for one in made:
        families[find(one.name)].append(one)
    return list(families.values())


@dataclass(slots=True)
class _Forest:
    chunks: dict[Node, Chunk] = field(default_factory=dict)
    bases: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    below: dict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    roots: list[Node] = field(default_factory=list)
    users: dict[Node, set[str]] = field(default_factory=lambda: defaultdict(set))


def every_chunk(repository: Repository, piece: ChunkPiece) -> list[Found]:
    """Decode the chunks of a piece, each once, and compare them with their ids."""
    forest = _forest(repository.backend, piece.recipes)
    walk = _Walk(repository.backend, forest)
    for root in forest.roots:
        number = int.from_bytes(forest.chunks[root].id[:8], "big")
        if (
            number % piece.parts == piece.part
            and number // piece.parts % piece.shares == piece.share
        ):
            walk.tree(root)
    return walk.found


def _forest(backend: Backend, names: Sequence[str]) -> _Forest:
    forest = _Forest()
    for name in names:
        quiet: list[Found] = []
        with telling(quiet, place=name):  # what is wrong with a recipe was told already
            made_of = load(backend, name)
            nodes = []
            for number in range(len(made_of)):
                chunk = made_of.chunk(number)
                node = (home_of(chunk), chunk.offset)
                nodes.append(node)
                forest.users[node].add(made_of.artifact.hex)
                if node not in forest.chunks:
                    _plant(forest, node, chunk, tuple(nodes[base] for base in chunk.bases))
    return forest


def _plant(forest: _Forest, node: Node, chunk: Chunk, bases: tuple[Node, ...]) -> None:
    forest.chunks[node], forest.bases[node] = chunk, bases
    if bases:
        forest.below[bases[0]].append(node)
    else:
        forest.roots.append(node)


class _Walk:
    def __init__(self, backend: Backend, forest: _Forest) -> None:
        self._backend = backend
        self._forest = forest
        self._held: OrderedDict[Node, Any] = OrderedDict()
        self._held_bytes = 0
        self.found: list[Found] = []

    def tree(self, root: Node) -> None:
        """The root and all that hangs below it. What needs a damaged base was told with that base: the
        recipe that needs it lists it."""
        waiting: list[tuple[Node, Any]] = [(root, None)]
        while waiting:
            node, first = waiting.pop()
            if node[0].startswith("blobs/") and not self._forest.below[node]:
                continue  # checked with its blob
            plain = self._checked(node, first)
            if plain is not None:
                waiting += [(below, plain) for below in self._forest.below[node]]

    def _checked(self, node: Node, first: Any) -> Any:
        """The plain bytes of a chunk, None if it is damaged."""
        others = [self._second(base) for base in self._forest.bases[node][1:]]
        if any(other is None for other in others):
            return None
        bases = [*([] if first is None else [first]), *others]
        found: list[Found] = []
        for _ in range(2):  # the fault may have lain between the disk and us
            found.clear()
            with telling(found, place=node[0]):
                return self._decoded(node, bases)
        if found[0].code != "missing":  # told with what is missing
            message = found[0].message
            users = tuple(sorted(self._forest.users[node]))
            self.found.append(Found(found[0].code, node[0], message, users))
        return None

    def _decoded(self, node: Node, bases: list[Any]) -> Any:
        chunk = self._forest.chunks[node]
        artifact = Digest(min(self._forest.users[node]))
        stored = self._backend.get_range(node[0], chunk.offset, chunk.length)
        return decoded(chunk, stored, bases, artifact)

    def _second(self, node: Node) -> Any:
        """The plain bytes of the second base of a chunk, which hangs elsewhere."""
        if node not in self._held:
            quiet: list[Found] = []
            with telling(quiet, place=node[0]):
                bases = [self._second(base) for base in self._forest.bases[node]]
                plain = None if any(b is None for b in bases) else self._decoded(node, bases)
                self._hold(node, plain)
                return plain
            return None
        self._held.move_to_end(node)
        return self._held[node]

    def _hold(self, node: Node, plain: Any) -> None:
        self._held[node] = plain
        self._held_bytes += 0 if plain is None else plain.size
        while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
            _, old = self._held.popitem(last=False)
            self._held_bytes -= 0 if old is None else old.size
