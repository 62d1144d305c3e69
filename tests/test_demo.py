"""The demo trains real models and gets the same accuracy from the checkpoint it reads back; plots and
tables are what they should look like."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.cli import main
from holdfast.cli.plot import line_plot, sparkline
from holdfast.cli.table import duration, fit, size, table, width_of
from holdfast.demo import digits


def test_the_demo_reads_back_the_accuracy_it_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    for part in ("softmax", "the same as", "sha256:", "val/loss", "└─", "holdfast verify --store"):
        assert part in out
    with holdfast.open("holdfast-demo", create=False) as store:
        runs = store.runs()
        assert len(runs) == 6
        best = store.runs(order_by='-metrics["val/accuracy"].last', limit=1)[0]
        assert best.metrics["test/accuracy"].last > 0.95
        assert min(run.metrics["test/accuracy"].last for run in runs) < 0.5, (
            "not all configs are good"
        )
        assert best.metrics["train/loss"].count > 500
        assert store.verify() == []
        assert len({run.artifacts["data/digits.npz"].digest for run in runs}) == 1
    assert main(["demo", "--json"]) == 0, "a second time it adds to the store"
    assert '"same_accuracy": true' in capsys.readouterr().out


def test_the_data_set_is_the_one_from_uci() -> None:
    data = digits.load()
    assert sum(len(split.labels) for split in data.values()) == 1797
    assert {len(split.images[0]) for split in data.values()} == {64}
    text = (Path(__file__).parents[1] / "fixtures" / "digits" / "README.md").read_text()
    assert "CC BY 4.0" in text


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, math.nan, 3]) == "▁ █"
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([math.inf]) == " "
    assert len(sparkline(range(1000), width=24)) == 24


def test_a_plot_of_a_straight_line() -> None:
    text = line_plot({"y": ([0, 10], [0, 1])}, width=8, height=2)
    assert text.splitlines() == [
        "           ● y",
        "        1 ┤   ⢀⡠⠔⠊●",
        "        0 ┤⡠⠔⠊⠁",
        "          └────────",
        "           0     10",
    ]


def test_a_gap_is_not_drawn_over() -> None:
    text = line_plot({"y": ([0, 2, 5, 8, 10], [1, 1, math.nan, 1, 1])}, width=10, height=1)
    assert text.splitlines()[1].endswith("┤⠤⠤⠄    ⠠⠤●")


def test_plots_of_nothing_and_of_one_point() -> None:
    assert "no finite points" in line_plot({"y": ([1], [math.nan])})
    assert "●" in line_plot({"y": ([1], [1])})
    assert "no finite points" in line_plot({"y": ([1, 2], [0, -1])}, log=True)


def test_tables_fit_and_keep_what_must_be_whole() -> None:
    rows = [["20260101-000000-abcdef", "a long name that is cut", "1"], ["x", "é日本", "-2.5e3"]]
    text = table(["run", "name", "n"], rows, width=40, whole=["run"])
    assert max(map(width_of, text.splitlines())) <= 40
    assert "20260101-000000-abcdef" in text
    assert "…" in text
    assert text.splitlines()[2].endswith("     1")
    wide = table(["run", "name", "n"], rows, width=200)
    assert "a long name that is cut" in wide
    assert "\n" not in table(["a"], [["x\ny"]], width=80).splitlines()[2]


def test_a_pipe_gets_lines_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert not sys.stdout.isatty() or os.environ.get("COLUMNS")
    assert "x" * 300 in table(["a"], [["x" * 300]])


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
    assert [duration(s) for s in (None, 0.44, 12, 200, 7500, 273_600)] == [
        "-", "0.4 s", "12 s", "3m 20s", "2h 05m", "3d 4h",
    ]  # fmt: skip
    assert fit("日本語", 5) == "日本…"
