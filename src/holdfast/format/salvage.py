"""What is whole of a spool that is damaged in its middle.

Every record has a mark that depends on the mark in front of it, so an intact record can be told from
damage wherever it lies. See docs/format/spool.md.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.format.marks import find_intact, intact_end
from holdfast.format.spool import Scan, Walk, read_header, torn_bytes, without_room


def scan(data: bytes, *, place: str, breathe: Callable[[], None] = lambda: None) -> Scan:
    """Read every intact record; a row whose schema was damaged is lost with it.

    Raises Corrupt when the header is damaged: then nobody knows whose points these are.
    """
    about, begin = read_header(data, place)
    data = without_room(data, begin + torn_bytes(data, begin))
    walk = Walk(data, place, begin, breathe)
    lost, good = 0, begin
    while begin < len(data):
        end = intact_end(data, begin, data[10])
        if not end:
            found = find_intact(data, begin + 1, data[10])
            if found is None or found == len(data):
                break
            begin = found
            continue
        walk.start = begin
        lost += begin - good
        lost += end - walk.run(stop=end)
        good = begin = end
    return Scan(about, walk.gather(), walk.places, good, torn_bytes(data, good), lost)
