"""The frame of `holdfast watch`, on terminals of every size."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

import holdfast
from holdfast.cli.table import width_of
from holdfast.cli.view import KEPT, Head, View

SECOND = 10**9
HEAD = Head("20250115-120000-abc123   resnet   try one", "Running", 75.0, 3.0)


def record(step: int, metrics: dict[str, float], *, at: float = 0.0, attempt: int = 1) -> Any:
    return holdfast.TailRecord(step, int(at * SECOND), metrics, 0, attempt)


def fed(count: int, keys: list[str], every: float = 0.5) -> View:
    view = View()
    view.feed(
        record(step, dict.fromkeys(keys, 1 / (step + 1)), at=every * step) for step in range(count)
    )
    return view


def test_a_frame_says_how_it_goes() -> None:
    view = fed(41, ["train/loss", "acc"])
    frame = view.frame(HEAD, 25 * SECOND, 96, 10)
    assert frame == [
        "20250115-120000-abc123   resnet   try one",
        "Running   elapsed 1m 15s   step 40   2 records/s   last record 5.0 s ago   heartbeat 3.0 s ago",
        "",
        "metric              last           min           max      points/s  curve",
        "acc            0.0243902     0.0243902             1             2  █▄▃▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁",
        "train/loss     0.0243902     0.0243902             1             2  █▄▃▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁",
    ]


@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), max_size=40),
    st.sampled_from(["Running", "Failed"]),
)
@settings(max_examples=150)
def test_a_frame_fits_every_terminal(width: int, height: int, keys: list[str], state: str) -> None:
    view = fed(3, keys)
    frame = view.frame(Head("x" * 50, state, None, None), 5 * SECOND, width, height)
    assert len(frame) <= height
    assert all(width_of(line) <= width for line in frame)
    assert all(line.isprintable() for line in frame)


def test_what_does_not_fit_is_counted() -> None:
    view = fed(2, [f"layer/{number}" for number in range(100)])
    frame = view.frame(HEAD, SECOND, 100, 12)
    assert [line.split()[0] for line in frame[4:]] == [*(f"layer/{n}" for n in range(7)), "…"]
    assert frame[-1] == "… and 93 more metrics: -k PATTERN chooses"
    assert len(view.frame(HEAD, SECOND, 100)) == 104
    whole = view.frame(HEAD, SECOND, 100, 104)
    assert [line.split()[0] for line in whole[4:]] == [f"layer/{number}" for number in range(100)]


def test_a_narrow_terminal_keeps_the_name_and_the_last_value() -> None:
    view = fed(2, ["train/a-rather-long-name"])
    assert view.frame(HEAD, SECOND, 30, 12)[-1].split() == ["train/a-rather-…", "0.5"]
    assert view.frame(HEAD, SECOND, 40, 12)[-2].split() == ["metric", "last", "curve"]


def test_what_the_system_did_comes_last() -> None:
    view = fed(2, ["system/cpu", "z", "layer/10", "layer/2"])
    names = [line.split()[0] for line in view.frame(HEAD, SECOND, 100)[4:]]
    assert names == ["layer/2", "layer/10", "z", "system/cpu"]


def test_the_state_alone_is_coloured() -> None:
    view = fed(1, ["a"])
    (first, second, *_) = view.frame(HEAD, SECOND, 100, 20, colour=True)
    assert "\x1b" not in first
    assert second.startswith("\x1b[1;32mRunning\x1b[0m   elapsed")
    assert not any("\x1b" in line for line in view.frame(HEAD, SECOND, 100, 20))


def test_a_resumption_takes_back_what_it_supersedes() -> None:
    view = fed(10, ["a"])
    view.feed([record(5, {"a": 0.7}, at=9, attempt=2)])
    assert [point[1] for point in view.metrics["a"].points] == [0, 1, 2, 3, 4, 5]
    stats = holdfast.MetricStats(
        count=5, nan=0, first=1.0, last=0.2, min=0.2, max=1.0, mean=0.4, first_step=0, last_step=4
    )
    view.seed({"a": stats})
    assert (view.metrics["a"].min, view.metrics["a"].last) == (0.2, 0.7)


def test_values_that_are_no_numbers_leave_least_and_greatest_alone() -> None:
    view = View()
    values = [1.0, math.nan, math.inf, -math.inf, math.nan]
    view.feed(record(step, {"a": value}, at=step) for step, value in enumerate(values))
    assert view.frame(HEAD, SECOND, 100)[-1].split()[:4] == ["a", "nan", "-inf", "inf"]


def test_memory_is_bounded_and_clocks_may_go_backwards() -> None:
    view = fed(3 * KEPT, ["a"], every=-0.01)
    assert len(view.metrics["a"].points) == KEPT
    assert view.frame(HEAD, SECOND, 100)[1].startswith("Running")
    same = View()
    same.feed(record(step, {"a": 1.0}, at=5) for step in range(3))
    assert same.metrics["a"].rate(5 * SECOND) == 0.0


def test_a_run_without_points() -> None:
    assert View().frame(HEAD, SECOND, 100, 20)[-1] == "nothing was logged yet"
