"""Which version of a checkpoint another one is encoded against, so that no chain of bases grows long.

Against the version before, a checkpoint is shortest, and after a hundred of them reading one means
decoding a hundred. Against the first one it is longest. Between the two: write the number of the version to
the base 3, and set the lowest digit that is not 0 to 0. Of 27 versions none is then more than three
deep, most are next to their base or one further, and the 28th begins anew.
"""

from __future__ import annotations

MAX_DEPTH = 3  # bases behind each other that a writer makes; readers take more
_DIGITS = 3


def base_of(number: int) -> int | None:
    """The version, from 0, that version `number` is encoded against; None if it stands alone."""
    step = 1
    while step < _DIGITS**MAX_DEPTH:
        digit = number // step % _DIGITS
        if digit:
            return number - digit * step
        step *= _DIGITS
    return None
