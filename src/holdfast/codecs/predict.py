"""What a number probably is, from the same number of an earlier version, and how far off that was.

The difference of two IEEE numbers, taken as integers, counts the numbers between them: small for weights
that moved a little. `BIAS` is added to it, so that zero is 80 80 .. in all bytes and small differences
of either sign leave the upper planes almost constant.

A mixture predicts a moving average from its last value and the weights that it follows:
`first + (second - first) * share / 65536`, in float32 (float64 for that type) with one rounding an
operation, then rounded to the type. All that could differ between machines is kept out: where a value
is not finite, or so small that a processor told to flush subnormals would, the prediction is the first
number itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.codecs.planes import WIDTHS, Numbers

SHARE_ONE = 65_536
MOST_SHARE = 4
BIAS = {width: int.from_bytes(b"\x80" * width, "little") for width in (1, 2, 4, 8)}


class Float(NamedTuple):
    """A floating point type: its registered number, bytes, bits below the exponent, and the exponents (to
    base 2) of the least and the greatest value that a mixture is used for."""

    number: int
    width: int
    shift: int
    least: int
    most: int


FLOATS = {
    "BF16": Float(1, 2, 7, -100, 120),
    "F16": Float(2, 2, 10, -13, 15),
    "F32": Float(3, 4, 23, -100, 120),
    "F64": Float(4, 8, 52, -900, 1000),
}
BY_NUMBER = {kind.number: kind for kind in FLOATS.values()}


def difference(numbers: Numbers, guess: Numbers) -> Numbers:
    out: Numbers = numbers - guess
    out += numbers.dtype.type(BIAS[numbers.itemsize])
    return out


def restore(off: Numbers, guess: Numbers) -> Numbers:
    """The inverse of `difference`."""
    out: Numbers = off - off.dtype.type(BIAS[off.itemsize])
    out += guess
    return out


def rotate(numbers: Numbers) -> Numbers:
    """The sign bit goes to the low end, so that the exponent fills whole bytes."""
    bits = numbers.dtype.type
    out: Numbers = numbers << bits(1)
    out |= numbers >> bits(8 * numbers.itemsize - 1)
    return out


def unrotate(numbers: Numbers) -> Numbers:
    bits = numbers.dtype.type
    out: Numbers = numbers >> bits(1)
    out |= numbers << bits(8 * numbers.itemsize - 1)
    return out


def _exponents(guess: Numbers, shift: int) -> NDArray[np.uint8]:
    exponents: NDArray[np.uint8] = (guess >> guess.dtype.type(shift)).astype(np.uint8)
    return exponents


def order(guess: Numbers, shift: int) -> NDArray[np.intp]:
    """A stable sort by the exponent of the guess, which says how far off it may be."""
    return np.argsort(_exponents(guess, shift), kind="stable")


def edges(guess: Numbers, shift: int, places: NDArray[np.intp], least: int = 4096) -> list[int]:
    """Where the exponent changes in a guess put in the order `places`; groups of fewer than `least`
    numbers are joined."""
    exponents = _exponents(guess, shift)[places]
    found, last = [], 0
    for end in np.searchsorted(exponents, np.arange(256, dtype=np.uint8), side="right").tolist():
        if end - last >= least and guess.size - end >= least:
            found.append(end)
            last = end
    return found


def _floats(numbers: Numbers, kind: Float) -> NDArray[Any]:
    """The numbers as float32, or as float64 where they are that: exactly."""
    if kind is FLOATS["BF16"]:
        numbers = numbers.astype("<u4")
        numbers <<= np.uint32(16)
    if kind is FLOATS["F16"]:
        return numbers.view(np.float16).astype(np.float32)
    floats: NDArray[Any] = numbers.view(np.float64 if kind.width == 8 else np.float32)
    return floats


def _rounded(floats: NDArray[Any], kind: Float) -> Numbers:
    """The inverse of `_floats`, ties to even."""
    if kind is FLOATS["F16"]:
        return floats.astype(np.float16).view("<u2")
    bits: Numbers = floats.view(WIDTHS[floats.itemsize])
    if kind is not FLOATS["BF16"]:
        return bits
    even = bits >> np.uint32(16)
    even &= np.uint32(1)
    even += np.uint32(0x7FFF)
    even += bits
    even >>= np.uint32(16)
    return even.astype("<u2")


def _unsound(floats: NDArray[Any], kind: Float) -> NDArray[np.bool_] | None:
    """Where an absolute value is outside 2**least to 2**most (that itself not included); None if nowhere.

    Told from the bits: without the sign they are in the order of the values."""
    numbers: Numbers = floats.view(WIDTHS[floats.itemsize])
    one = numbers.dtype.type
    bias, shift = (1023, 53) if floats.itemsize == 8 else (127, 24)
    above = numbers << one(1)
    above -= one((kind.least + bias) << shift)
    span = one((kind.most - kind.least) << shift)
    return above >= span if above.max() >= span else None


def mix(first: Numbers, second: Numbers, share: int, kind: Float) -> Numbers:
    """The mixture of two bases, as numbers of the type `kind`."""
    with np.errstate(all="ignore"):
        one, two = _floats(first, kind), _floats(second, kind)
        mixed = two - one
        mixed *= mixed.dtype.type(share / SHARE_ONE)
        mixed += one
        guess = _rounded(mixed, kind)
    for values in (one, two, mixed):
        unsound = _unsound(values, kind)
        if unsound is not None:
            guess = np.where(unsound, first, guess)
    return guess


def share_of(numbers: Numbers, first: Numbers, second: Numbers, kind: Float) -> int:
    """The share of the second base that explains `numbers` best, by least squares."""
    with np.errstate(all="ignore"):
        wanted, one, two = (_floats(n, kind).astype(np.float64) for n in (numbers, first, second))
        way, gone = two - one, wanted - one
        sound = np.abs(way) + np.abs(gone) < 2.0 ** min(kind.most, 500)
        below = float(np.square(way[sound]).sum())
        share = float((way[sound] * gone[sound]).sum()) / below if below else 0.0
    return round(SHARE_ONE * min(max(share, -MOST_SHARE), MOST_SHARE))
