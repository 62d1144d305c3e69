"""Which version of a checkpoint another one is encoded against, so that no chain of bases grows long.

Against the version before, a checkpoint is shortest, and after a hundred of them reading one means
decoding a hundred. Against the first one it is longest. Between the two: write the number of the version to
the base 3, and set the lowest digit that is not 0 to 0. Of 27 versions none is then more than three
deep, most are next to their base or one further, and the 28th begins anew.

Where only the newest are kept, a base that is kept no longer stays all the same as long as what was encoded
against it: if few are kept it costs more than it saves. So these stand alone, and share equal pieces only.
"""

from __future__ import annotations

MAX_DEPTH = 3  # bases behind each other that a writer makes; readers take more
FEW = 4  # with so many kept versions bases pay
_DIGITS = 3


def base_of(number: int, kept: int | None = None) -> int | None:
    """The version, from 0, that version `number` is encoded against; None if it stands alone. `kept`: of how
    many versions the names are kept, None for all."""
    if kept is not None and kept < FEW:
        return None
    step = 1
    while step < _DIGITS**MAX_DEPTH:
        digit = number // step % _DIGITS
        if digit:
            return number - digit * step
        step *= _DIGITS
    return None
