"""Curves as text: sparklines of one line, and plots of braille dots with axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a braille cell
_MARKS = "●▲■◆"


def sparkline(values: Iterable[float], width: int = 24) -> str:
    """The values, in buckets of their mean, as bars; NaN and infinities leave a gap."""
    kept = [float(value) for value in values]
    if not kept:
        return ""
    buckets = _buckets(kept, min(width, len(kept)))
    real = [value for value in buckets if math.isfinite(value)]
    if not real:
        return " " * len(buckets)
    low, span = min(real), (max(real) - min(real)) or 1.0
    return "".join(
        _BARS[min(7, int((value - low) / span * 7.999))] if math.isfinite(value) else " "
        for value in buckets
    )


def _buckets(values: Sequence[float], count: int) -> list[float]:
    edges = [len(values) * place // count for place in range(count + 1)]
    parts = [values[a:b] for a, b in itertools.pairwise(edges)]
    return [_mean([v for v in part if math.isfinite(v)]) for part in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def line_plot(
    series: Mapping[str, tuple[Iterable[float], Iterable[float]]],
    *,
    title: str = "",
    width: int = 72,
    height: int = 12,
    log: bool = False,
) -> str:
    """Curves `{name: (x, y)}` in one frame of `width` × `height` characters; with `log`, y is
    logarithmic and what is not above 0 is left out."""
    pieces = {name: _stretches(x, y, log) for name, (x, y) in series.items()}
    curves = {name: list(itertools.chain(*some)) for name, some in pieces.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return f"{title}\n(no finite points)"
    x_low, x_high = _span([x for x, _ in points])
    y_low, y_high = _span([y for _, y in points])
    canvas = [[0] * width for _ in range(height)]
    for name, piece in ((name, piece) for name, some in pieces.items() for piece in some):
        dots = [
            (
                round((x - x_low) / (x_high - x_low) * (2 * width - 1)),
                round((y_high - y) / (y_high - y_low) * (4 * height - 1)),
            )
            for x, y in piece
        ]
        for column, row in _joined(dots) if len(curves[name]) < width else dots:
            canvas[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    marks = _end_marks(curves, (x_low, x_high, y_low, y_high), width, height)
    return "\n".join(_framed(title, canvas, marks, curves, (x_low, x_high, y_low, y_high), log))


def _joined(dots: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The dots with straight lines between them: few points are no curve to the eye."""
    yield from dots[:1]
    for (a, b), (c, d) in itertools.pairwise(dots):
        count = max(abs(c - a), abs(d - b), 1)
        for place in range(1, count + 1):
            yield a + (c - a) * place // count, b + (d - b) * place // count


def _stretches(
    x: Iterable[float], y: Iterable[float], log: bool
) -> list[list[tuple[float, float]]]:
    """The points between gaps: NaN, infinities, and with `log` what is not above 0."""
    found: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, y, strict=True):
        if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log):
            found[-1].append((float(a), math.log10(b) if log else float(b)))
        elif found[-1]:
            found.append([])
    return found


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


Box = tuple[float, float, float, float]


def _end_marks(
    curves: Mapping[str, list[tuple[float, float]]], box: Box, width: int, height: int
) -> dict[tuple[int, int], str]:
    """A mark at the end of each curve, so that the legend can say which is which."""
    x_low, x_high, y_low, y_high = box
    found = {}
    for mark, curve in zip(_MARKS, curves.values(), strict=False):
        if curve:
            x, y = curve[-1]
            column = round((x - x_low) / (x_high - x_low) * (2 * width - 1)) // 2
            row = round((y_high - y) / (y_high - y_low) * (4 * height - 1)) // 4
            found[row, column] = mark
    return found


def _framed(
    title: str,
    canvas: list[list[int]],
    marks: Mapping[tuple[int, int], str],
    names: Iterable[str],
    box: Box,
    log: bool,
) -> Iterable[str]:
    x_low, x_high, y_low, y_high = box
    height, width = len(canvas), len(canvas[0])
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(_MARKS, names, strict=False))
    yield f"{'':>9}  {'   '.join(part for part in (title, legend) if part)}".rstrip()
    for row, cells in enumerate(canvas):
        at = y_high - (y_high - y_low) * row / max(1, height - 1)
        label = f"{10**at if log else at:.3g}" if row % 3 == 0 or row == height - 1 else ""
        text = "".join(
            marks.get((row, column)) or (chr(0x2800 + cell) if cell else " ")
            for column, cell in enumerate(cells)
        )
        yield f"{label:>9} ┤{text}".rstrip()
    yield f"{'':>9} └{'─' * width}"
    left, right = f"{x_low:g}", f"{x_high:g}"
    yield f"{'':>10} {left}{right:>{width - len(left)}}"
