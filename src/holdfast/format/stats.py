"""What a manifest says of each metric, so that listing and filtering never open a segment.

A statistic is the map `{count, nan, first, last, min, max, mean, first_step, last_step}`. `first` and
`last` go by step, equal steps by the order of logging; min, max and mean leave NaN out and are absent
when every value is NaN. See docs/format/manifest.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from holdfast.format.manifest import State
from holdfast.format.segment import Axis

Stats = dict[str, Any]


def of(axis: Axis) -> dict[str, Stats]:
    """The statistics of every column of an axis in step order."""
    steps = (int(axis.steps[0]), int(axis.steps[-1]))
    with np.errstate(all="ignore"):
        return {key: _column(values, *steps) for key, values in axis.columns.items()}


def _column(values: Any, first_step: int, last_step: int) -> Stats:
    nan = np.isnan(values)
    real = values[~nan] if nan.any() else values
    stats: Stats = {
        "count": len(values),
        "nan": len(values) - len(real),
        "first": float(values[0]),
        "last": float(values[-1]),
        "first_step": first_step,
        "last_step": last_step,
    }
    if len(real):
        mean = float(real.mean())
        stats |= {"min": float(real.min()), "max": float(real.max()), "mean": mean}
    return stats


def merge(earlier: Stats | None, later: Stats) -> Stats:
    """Both together, `later` having been logged after `earlier`."""
    if earlier is None:
        return later
    both = {
        "count": earlier["count"] + later["count"],
        "nan": earlier["nan"] + later["nan"],
        **_end(earlier if earlier["first_step"] <= later["first_step"] else later, "first"),
        **_end(later if later["last_step"] >= earlier["last_step"] else earlier, "last"),
    }
    return both | _spread(earlier, later)


def _end(stats: Stats, end: str) -> Stats:
    return {end: stats[end], f"{end}_step": stats[f"{end}_step"]}


def _spread(a: Stats, b: Stats) -> Stats:
    sides = [side for side in (a, b) if "mean" in side]
    if not sides:
        return {}
    real = [side["count"] - side["nan"] for side in sides]
    mean = sum(side["mean"] * (n / sum(real)) for side, n in zip(sides, real, strict=True))
    return {
        "min": min(side["min"] for side in sides),
        "max": max(side["max"] for side in sides),
        "mean": float(mean),
    }


def with_ranks(state: State, ranks: Mapping[int, State]) -> State:
    """The state of a run with statistics that cover its further writers, `ranks` by number, as well.

    It has a section `ranks` besides, which no manifest has: what each of them says of its writer.
    """
    if not ranks:
        return state
    parts = [ranks[number].get("metrics", {}) for number in sorted(ranks)]
    return {
        **state,
        "metrics": merge_all(state.get("metrics", {}), parts),
        "ranks": {str(number): ranks[number].get("writer", {}) for number in sorted(ranks)},
    }


def merge_all(into: dict[str, Stats], parts: Iterable[dict[str, Stats]]) -> dict[str, Stats]:
    """`into` with every part merged in, in order; a new dict."""
    merged = dict(into)
    for part in parts:
        for key, stats in part.items():
            merged[key] = merge(merged.get(key), stats)
    return merged
