"""The data set of the demo: 1,797 handwritten digits (UCI, CC BY 4.0; see fixtures/digits/README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Split:
    """`images` (n, 64) from 0 to 1, `labels` (n,) from 0 to 9."""

    images: Array
    labels: NDArray[np.int64]


def path() -> Path:
    """The data file, in an installed package or in a clone."""
    here = Path(__file__).resolve().parent
    places = [here / "data" / "digits.npz", here.parents[2] / "fixtures" / "digits" / "digits.npz"]
    return next(place for place in places if place.exists())


def load(seed: int = 0) -> dict[str, Split]:
    """Fixed parts: 1,200 images to train with, 300 to choose by, 297 to test on."""
    with np.load(path()) as data:
        images, labels = data["images"] / 16.0, data["labels"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = {"train": order[:1200], "val": order[1200:1500], "test": order[1500:]}
    return {name: Split(images[place], labels[place]) for name, place in parts.items()}
