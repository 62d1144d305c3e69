"""What a recipe may say: every number within its limits, every base listed before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from holdfast.format import pack, recipe_files
from holdfast.format.recipe_plain import MAX_CHUNK_BYTES, MAX_OFFSET

if TYPE_CHECKING:
    from holdfast.format.recipe import Recipe

MAX_DEPTH = 8  # bases behind each other
RAW = 0  # the codec of what lies plain
NONE = 0xFFFF_FFFF  # no base

COLUMNS = {
    "sizes": "<u4", "homes": "<u4", "offsets": "<u8", "lengths": "<u4", "codecs": "u1",
    "first": "<u4", "second": "<u4",
}  # fmt: skip


def check(recipe: Recipe) -> None:
    """ValueError unless the recipe is as its page says."""
    sizes, homes, offsets, lengths, codecs, first, second = (recipe.columns[c] for c in COLUMNS)
    if any(len(column) != len(sizes) for column in recipe.columns.values()):
        raise ValueError("its columns differ in length")
    if len(recipe.ids) != 32 * len(sizes):
        raise ValueError("it has not one id for each chunk")
    if type(recipe.size_bytes) is not int or int(recipe.starts[-1]) != recipe.size_bytes:
        raise ValueError("its pieces do not add up to its size")
    if (sizes < 1).any() or (sizes > MAX_CHUNK_BYTES).any() or (offsets > MAX_OFFSET).any():
        raise ValueError("a chunk has a size or an offset outside the limits")
    if (lengths < 1).any() or (lengths > sizes).any():
        raise ValueError("a chunk takes more bytes than it holds, or none")
    if (homes >= len(recipe.homes)).any():
        raise ValueError("a chunk lies in a file that is not named")
    _codecs(recipe, codecs, first, second)
    last = max((tensor.stop for tensor in recipe.tensors), default=0)
    if last > recipe.size_bytes:
        raise ValueError("a tensor lies outside the artifact")
    if recipe.files is not None:
        recipe_files.check(recipe.files, recipe.size_bytes)


def _codecs(
    recipe: Recipe, codecs: NDArray[Any], first: NDArray[Any], second: NDArray[Any]
) -> None:
    packed = np.array([packed for _, packed in recipe.homes], bool)
    plain = ~packed[recipe.columns["homes"]] | (codecs == RAW)
    if (codecs[plain] != RAW).any() or (first[plain] != NONE).any():
        raise ValueError("a chunk that is stored as it is has a codec or a base")
    if (recipe.columns["lengths"][plain] != recipe.columns["sizes"][plain]).any():
        raise ValueError("a chunk that is stored as it is has two lengths")
    if ((second != NONE) & (first == NONE)).any():
        raise ValueError("a chunk has a second base and no first")
    sizes, numbers = recipe.columns["sizes"], np.arange(len(first))
    if (sizes[packed[recipe.columns["homes"]]] > pack.MAX_CHUNK_BYTES).any():
        raise ValueError("a chunk in a pack is longer than one may be")
    for base in (first, second):
        needs = base != NONE
        if (base[needs] >= numbers[needs]).any():
            raise ValueError("a base is not listed before the chunk that needs it")
        if (sizes[base[needs]] != sizes[needs]).any():
            raise ValueError("a base has another size than the chunk that needs it")
    depths(first, second)


def depths(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """How deep each chunk's bases are; ValueError if deeper than MAX_DEPTH."""
    deep = np.zeros(len(first) + 1, np.int64)
    deep[-1] = -1  # below a chunk without a base
    one, two = (np.where(base == NONE, len(first), base) for base in (first, second))
    for _ in range(MAX_DEPTH + 1):
        deeper = 1 + np.maximum(deep[one], deep[two])
        if np.array_equal(deeper, deep[:-1]):
            return deeper
        deep[:-1] = deeper
    raise ValueError(f"its bases are more than {MAX_DEPTH} deep")
