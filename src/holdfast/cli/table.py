"""Tables, sizes and times for people."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence

_NUMBER = re.compile(
    r"[-+]?[\d,.]+(e[-+]?\d+)?( ?([KMGT]i?B|B|%|s|m|h|d|ms))?\Z|nan\Z|[-+]?inf\Z|-\Z"
)


def width_of(text: str) -> int:
    """How many columns the text takes: wide East Asian characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def fit(text: str, width: int) -> str:
    """The text cut to `width` columns, with … where something is missing."""
    if width_of(text) <= width:
        return text
    kept = ""
    for char in text:
        if width_of(kept + char) > width - 1:
            break
        kept += char
    return kept + "…"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    whole: Sequence[str] = (),
) -> str:
    """Columns under a head line; numbers to the right; cut to the terminal where they must be.

    The columns `whole` are never cut: what they hold is there to be copied.
    """
    if width is None:
        width = _terminal_width()
    clean = [[_one_line(cell) for cell in row] for row in rows]
    columns = list(zip(head, *clean, strict=True))
    widths = [max(map(width_of, column)) for column in columns]
    _shrink(widths, [name not in whole for name in head], width)
    right = [
        all(_NUMBER.match(c) or not c for c in column[1:]) and len(column) > 1 for column in columns
    ]
    lines = [_line(row, widths, right) for row in [list(head), *clean]]
    return "\n".join([lines[0], "  ".join("─" * w for w in widths), *lines[1:]])


def _one_line(cell: str) -> str:
    return "".join(char if char.isprintable() else " " for char in cell)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        text = fit(cell, width)
        space = " " * (width - width_of(text))
        padded.append(space + text if to_right else text + space)
    return "  ".join(padded).rstrip()


def _shrink(widths: list[int], may: list[bool], most: int) -> None:
    """Take from the widest columns that may be cut until the line fits; never below 6."""
    places = [place for place, free in enumerate(may) if free]
    while sum(widths) + 2 * (len(widths) - 1) > most:
        widest = max(places, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= 6:
            return
        widths[widest] -= 1


def _terminal_width() -> int:
    """A file or a pipe takes lines of any length; a person's terminal does not."""
    wide = 10_000 if not sys.stdout.isatty() else 100
    return shutil.get_terminal_size((wide, 24)).columns


def size(count: float) -> str:
    """Bytes in binary units: 3.1 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Seconds as 0.4 s, 12 s, 3m 20s, 2h 05m, 3d 4h."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def number(value: float | None) -> str:
    """A metric with six digits."""
    return "-" if value is None else f"{value:.6g}"
