"""What a new artifact may share with those that are stored: chunks as they are, and bases.

window = Window(backend, digests)   recipes of these artifacts whose files are there
window.against(digest)              the same, with that one as the earlier version to encode against
window.find(id)                     a chunk with this id: (recipe, number)
window.base                         the earlier version, or None
window.add(recipe)                  one more
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.chunking import Contents, Piece
from holdfast.codecs import MAX_DEPTH
from holdfast.digest import Digest
from holdfast.errors import HoldfastError, NameNotFound
from holdfast.format import layout
from holdfast.format.recipe import Recipe
from holdfast.verified_artifact import recipes, stored_bytes
from holdfast.verified_chunks import Bytes, Chunks


class Base:
    """An earlier version: its pieces by tensor and place."""

    def __init__(self, backend: Backend, made_of: Recipe) -> None:
        self.recipe = made_of
        self._chunks = Chunks(backend, made_of)
        self._starts = {tensor.name: tensor.start for tensor in reversed(made_of.tensors)}
        self._depths = made_of.depths()

    def number(self, piece: Piece, lead: int) -> int | None:
        """The chunk that is the same piece of the same tensor and not too deep. `lead` is how far behind
        the start of its span the tensor begins, which gives the span its name."""
        start = self._starts.get(piece.name or "")
        if start is None or not 0 <= (at := start - lead + piece.at) < self.recipe.size_bytes:
            return None
        index = self.recipe.piece_at(at)
        number = int(self.recipe.order[index])
        same = self.recipe.starts[index] == at and self.recipe.columns["sizes"][number] == (
            piece.size_bytes
        )
        return number if same and self._depths[number] < MAX_DEPTH else None

    def plain(self, number: int) -> Bytes | None:
        """Its bytes; None where they are damaged: then it is no base."""
        try:
            return self._chunks.chunk(number)
        except HoldfastError:
            return None


class Window:
    """Recipes that are at hand while an artifact is stored."""

    def __init__(self, backend: Backend, digests: Sequence[Digest] = ()) -> None:
        self.base: Base | None = None
        self._backend = backend
        self._there: dict[tuple[Digest, bool], bool] = {}
        self._recipes: dict[Digest, Recipe] = {}
        self._known: dict[bytes, tuple[Recipe, int]] = {}
        found = in_order(lambda digest: recipes(backend, digest)[0], digests)
        for made in found:
            sound = [recipe for recipe in made if self.is_there(recipe)]
            for recipe in sorted(sound, key=stored_bytes)[:1]:
                self.add(recipe)

    def against(self, digest: Digest | None) -> Window:
        """The same recipes, with that artifact, if it is among them, as the base."""
        other = copy(self)
        recipe = self._recipes.get(digest) if digest else None
        other.base = Base(self._backend, recipe) if recipe else None
        return other

    def without(self, digest: Digest) -> Window:
        """The same, but for the chunks that are known by the recipe of that artifact alone."""
        other = Window(self._backend)
        other.base = self.base
        for artifact, recipe in self._recipes.items():
            if artifact != digest:
                other.add(recipe)
        return other

    def add(self, recipe: Recipe) -> None:
        """One more recipe, whose files are there."""
        self._recipes.setdefault(recipe.artifact, recipe)
        for number in range(len(recipe)):
            self._known.setdefault(recipe.ids[32 * number : 32 * number + 32], (recipe, number))

    def find(self, id: bytes) -> tuple[Recipe, int] | None:
        """(a recipe, the number in it) of a chunk with this id."""
        return self._known.get(id)

    def is_there(self, recipe: Recipe) -> bool:
        """Whether every file that the recipe names is in the store."""
        for home, packed in recipe.homes:
            if (home, packed) not in self._there:
                try:
                    self._backend.stat((layout.pack if packed else layout.blob)(home))
                    self._there[home, packed] = True
                except NameNotFound:
                    self._there[home, packed] = False
        return all(self._there[home] for home in recipe.homes)


def leads(found: Contents) -> dict[str, int]:
    """For the names of spans, how far behind the start of the span the tensor of that name begins."""
    starts = {tensor.name: tensor.start for tensor in reversed(found.tensors)}
    return {span.name: starts.get(span.name, span.start) - span.start for span in found.spans}
