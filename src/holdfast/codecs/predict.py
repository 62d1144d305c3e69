"""What a number probably is, from the same number of an earlier version, and how far off that was.

The difference of two IEEE numbers, taken as integers, counts the numbers between them: small for weights
that moved a little. `BIAS` is added to it, so that zero is 80 80 .. in all bytes and small differences
of either sign leave the upper planes almost constant.

A mixture predicts a moving average from its last value and the weights that it follows:
`first + (second - first) * share / 65536`, in float64 with one rounding an operation, then rounded to
the type. All that could differ between machines is kept out: where a value is not finite, or so small
that a processor told to flush subnormals would, the prediction is the first number itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.codecs.planes import Numbers

SHARE_ONE = 65_536
BIAS = {width: int.from_bytes(b"\x80" * width, "little") for width in (1, 2, 4, 8)}


class Float(NamedTuple):
    """A floating point type: its registered number, bits below the exponent, least and greatest value
    that a mixture is used for."""

    number: int
    width: int
    shift: int
    least: float
    most: float


FLOATS = {
    "BF16": Float(1, 2, 7, 2.0**-118, 2.0**126),
    "F16": Float(2, 2, 10, 2.0**-13, 2.0**15),
    "F32": Float(3, 4, 23, 2.0**-118, 2.0**126),
    "F64": Float(4, 8, 52, 2.0**-1000, 2.0**1000),
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


def order(guess: Numbers, shift: int) -> NDArray[np.intp]:
    """A stable sort by the exponent of the guess, which says how far off it may be."""
    exponents = (guess >> guess.dtype.type(shift)).astype(np.uint8)
    return np.argsort(exponents, kind="stable")


def edges(guess: Numbers, shift: int, least: int = 4096) -> list[int]:
    """Where the exponent changes in a sorted guess; groups of fewer than `least` numbers are joined."""
    exponents = (guess >> guess.dtype.type(shift)).astype(np.uint8)
    ends = np.cumsum(np.bincount(exponents, minlength=256)).tolist()
    found, last = [], 0
    for end in ends:
        if end - last >= least and guess.size - end >= least:
            found.append(end)
            last = end
    return found


def _values(numbers: Numbers, kind: Float) -> NDArray[np.float64]:
    if kind is FLOATS["BF16"]:
        numbers = numbers.astype("<u4") << np.uint32(16)
    types: dict[int, Any] = {2: np.float16, 4: np.float32, 8: np.float64}
    floats: NDArray[Any] = numbers.view(types[numbers.itemsize])
    return floats.astype(np.float64)


def _numbers(values: NDArray[np.float64], kind: Float) -> Numbers:
    """`values` rounded to the type, ties to even."""
    if kind is FLOATS["F64"]:
        return values.view("<u8")
    if kind is FLOATS["F16"]:
        return values.astype(np.float16).view("<u2")
    bits = values.astype(np.float32).view("<u4")
    if kind is FLOATS["F32"]:
        return bits
    even = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype("<u2")


def mix(first: Numbers, second: Numbers, share: int, kind: Float) -> Numbers:
    """The mixture of two bases, as numbers of the type `kind`."""
    with np.errstate(all="ignore"):
        one, two = _values(first, kind), _values(second, kind)
        mixed = two - one
        mixed *= share / SHARE_ONE
        mixed += one
        sound = np.ones(len(one), bool)
        for values in (one, two, mixed):
            size = np.abs(values)
            sound &= (size >= kind.least) & (size <= kind.most)
        return np.where(sound, _numbers(mixed, kind), first)


def share_of(numbers: Numbers, first: Numbers, second: Numbers, kind: Float) -> int:
    """The share of the second base that explains `numbers` best, by least squares."""
    with np.errstate(all="ignore"):
        wanted, one, two = (_values(n, kind) for n in (numbers, first, second))
        way = two - one
        sound = np.isfinite(way) & np.isfinite(wanted) & (np.abs(way) < kind.most)
        way, gone = way[sound], (wanted - one)[sound]
        below = float((way * way).sum())
        share = float((way * gone).sum()) / below if below else 0.0
    return round(SHARE_ONE * min(max(share, -4.0), 4.0)) if np.isfinite(share) else 0
