"""Series in pandas, polars, Arrow and DuckDB: the same numbers, and no copy where none is promised."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow
import pytest

import holdfast
from holdfast import arrow
from holdfast.errors import MissingDependency
from holdfast.series import Series
from holdfast.together import Aligned, Curve, SeriesMap, align

PRODUCERS = ["pyarrow", "arro3.core", "nanoarrow"]
START = 1_700_000_000_000_000_001  # the last ns is lost by whatever goes through a float


@pytest.fixture(params=PRODUCERS)
def producer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Only this library makes the streams."""
    name: str = request.param
    monkeypatch.setattr(arrow, "_PRODUCERS", {name: arrow._PRODUCERS[name]})
    return name


def series(key: str = "loss", count: int = 5, *, ranks: bool = False) -> Series:
    steps = np.arange(count, dtype=np.uint64) + np.uint64(2**64 - 1 - count)
    values = np.resize([0.5, np.nan, np.inf, -0.0, 5e-324], count).astype(np.float64)
    times = np.arange(count, dtype=np.int64) + START
    return Series(key, steps, values, times, np.arange(count, dtype=np.int32) if ranks else None)


def pair() -> SeriesMap:
    return SeriesMap([series("train/loss", 3, ranks=True), series("läuft/η", 2)])


def side_by_side() -> Aligned:
    curves = {"a": Curve(series(count=4), START), "b": Curve(series(count=2), START)}
    return align(curves, "step")


NUMBERS = {"step": pyarrow.uint64(), "time": pyarrow.timestamp("ns", "UTC"),
           "value": pyarrow.float64(), "rank": pyarrow.int32()}  # fmt: skip


@pytest.mark.parametrize("ranks", [False, True])
def test_a_series_is_an_arrow_table_with_no_copy(producer: str, ranks: bool) -> None:
    one = series(ranks=ranks)
    table = pyarrow.table(one)
    arrays = {"step": one.steps, "time": one.timestamps, "value": one.values}
    if one.ranks is not None:
        arrays["rank"] = one.ranks
    assert table.schema.names == list(arrays)
    for name, array in arrays.items():
        column = table.column(name).chunk(0)
        assert column.type == NUMBERS[name]
        assert column.buffers()[1].address == array.__array_interface__["data"][0]
        assert column.null_count == 0
        back = column.to_numpy() if name != "time" else column.cast("int64").to_numpy()
        assert back.tobytes() == array.tobytes()


def test_slices_and_read_only_arrays_are_handed_over_as_well(producer: str) -> None:
    whole = series(count=100)
    part = Series("x", whole.steps[10:20], whole.values[10:20], whole.timestamps[10:20])
    for array in (part.steps, part.values, part.timestamps):
        array.flags.writeable = False
    table = pyarrow.table(part)
    address = table.column("value").chunk(0).buffers()[1].address
    assert address == whole.values.__array_interface__["data"][0] + 80
    strided = Series("x", whole.steps[::2], whole.values[::2], whole.timestamps[::2])
    assert pyarrow.table(strided).column("step").to_pylist() == whole.steps[::2].tolist()


def test_the_memory_lives_as_long_as_the_table(producer: str) -> None:
    table = pyarrow.table(series(count=1000))
    noise = [np.full(1000, number, np.float64) for number in range(100)]
    assert len(noise) == 100
    assert table.column("step").to_pylist() == series(count=1000).steps.tolist()


def test_a_map_is_one_long_table(producer: str) -> None:
    table = pyarrow.table(pair())
    assert table.column("key").to_pylist() == ["train/loss"] * 3 + ["läuft/η"] * 2
    assert table.column("rank").to_pylist() == [0, 1, 2, 0, 0]
    assert table.column("step").to_pylist() == [*series(count=3).steps, *series(count=2).steps]
    first = pair()
    chunk = pyarrow.table(first).column("value").chunk(0)
    address = first["train/loss"].values.__array_interface__["data"][0]
    assert chunk.buffers()[1].address == address
    assert pyarrow.table(SeriesMap([])).num_rows == 0
    assert pyarrow.table(SeriesMap([])).schema.names == ["key", "step", "time", "value"]


def test_what_is_not_there_is_null_and_nan_is_nan(producer: str) -> None:
    found = side_by_side()
    table = pyarrow.table(found)
    assert table.schema.names == ["step", "a", "b"]
    assert table.column("a").null_count == 0
    assert table.column("b").null_count == int((~found.present["b"]).sum()) == 2
    values = table.column("b").to_pylist()
    assert values[:2] == [None, None]
    assert values[2] == 0.5
    assert np.isnan(values[3])


def test_polars_and_duckdb_read_the_stream(producer: str) -> None:
    one, several, aligned = series(), pair(), side_by_side()
    frame = polars.DataFrame(one)
    assert frame["step"].to_list() == one.steps.tolist()
    assert frame["time"].dtype == polars.Datetime("ns", "UTC")
    assert frame["time"].to_physical().to_list() == one.timestamps.tolist()
    # polars.DataFrame() takes a mapping for a dict of columns before it looks for a stream.
    assert (
        polars.from_arrow(several).struct.unnest()["key"].to_list()
        == ["train/loss"] * 3 + ["läuft/η"] * 2
    )
    assert polars.DataFrame(aligned)["b"].null_count() == 2
    counted = duckdb.sql("select key, count(*), max(step) from several group by key order by key")
    assert counted.fetchall() == [
        ("läuft/η", 2, int(several["läuft/η"].steps.max())),
        ("train/loss", 3, int(several["train/loss"].steps.max())),
    ]
    assert duckdb.sql("select count(b), count(*) from aligned").fetchall() == [(2, 4)]
    assert duckdb.sql("select sum(value) from one where step % 2 = 0").fetchall() == [(np.inf,)]


def test_pandas_reads_the_stream(producer: str) -> None:
    frame = pandas.DataFrame.from_arrow(series())
    assert frame["step"].tolist() == series().steps.tolist()
    assert frame["value"].to_numpy().tobytes() == series().values.tobytes()


def test_to_pandas_and_to_polars_hold_the_same() -> None:
    one = series(ranks=True)
    for frame in (one.to_pandas(), one.to_polars()):
        assert list(frame.columns) == ["step", "time", "value", "rank"]
        assert frame["step"].to_numpy().tobytes() == one.steps.tobytes()
        assert frame["value"].to_numpy().tobytes() == one.values.tobytes()
    assert str(one.to_pandas()["time"].dtype) == "datetime64[ns, UTC]"
    assert one.to_pandas()["time"].astype("int64").tolist() == one.timestamps.tolist()
    assert one.to_polars()["time"].to_physical().to_list() == one.timestamps.tolist()
    assert np.shares_memory(one.to_pandas()["value"].to_numpy(), one.values)


def test_maps_and_aligned_as_frames() -> None:
    for frame in (pair().to_pandas(), pair().to_polars()):
        assert frame["key"].to_list() == ["train/loss"] * 3 + ["läuft/η"] * 2
        assert frame["rank"].to_list() == [0, 1, 2, 0, 0]
    assert pair().to_pandas().groupby("key", observed=True)["step"].count().sum() == 5
    assert SeriesMap([]).to_pandas().shape == SeriesMap([]).to_polars().shape == (0, 4)
    aligned = side_by_side()
    assert np.isnan(aligned.to_pandas()["b"]).tolist() == [True, True, False, True]
    assert aligned.to_polars()["b"].is_null().to_list() == [True, True, False, False]
    assert aligned.to_polars()["b"].is_nan().to_list() == [None, None, False, True]
    relative = align({"a": Curve(series(count=2), START)}, "relative")
    assert relative.to_polars()["relative"].to_list() == relative.x.tolist() == [0.0, 1e-9]
    times = align({"a": Curve(series(count=2), START)}, "time")
    assert str(times.to_pandas()["time"].dtype) == "datetime64[ns, UTC]"


@pytest.mark.parametrize(
    ("use", "library", "sentence"),
    [
        (lambda one: one.to_pandas(), ["pandas"], "to_pandas needs pandas, .* pip install pandas"),
        (lambda one: one.to_polars(), ["polars"], "to_polars needs polars, .* pip install polars"),
        (lambda one: pyarrow.table(one), PRODUCERS, r"pip install 'holdfast\[arrow\]'"),
    ],
    ids=["pandas", "polars", "arrow"],
)
def test_what_is_not_installed_is_named(
    use: Any, library: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in library:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=sentence) as error:
        use(series())
    assert isinstance(error.value, ImportError)
    assert error.value.code == "missing_dependency"


AT_EXIT = """
import builtins, sys
for name in {others!r}:
    sys.modules[name] = None
import numpy as np
from holdfast.series import Series
one = Series("x", np.arange(9, dtype=np.uint64), np.arange(9.0), np.arange(9))
{hold}
print("held", file=sys.stderr)
"""
HOLDERS = {
    "a table": "import {name} as library; builtins.kept = library.{table}(one)",
    "a capsule": "builtins.kept = one.__arrow_c_stream__()",
    "polars": "import polars; builtins.kept = polars.DataFrame(one)",
    "duckdb": "import duckdb; builtins.kept = duckdb.sql('from one')",
}
TABLES = {"pyarrow": "table", "arro3.core": "Table.from_arrow", "nanoarrow": "ArrayStream"}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", PRODUCERS)
def test_python_ends_well_while_a_consumer_still_holds_the_data(name: str, holder: str) -> None:
    """A producer made by hand with ctypes aborts here."""
    others = [other for other in PRODUCERS if other != name]
    if holder == "duckdb":
        others = [other for other in others if other != "pyarrow"]  # it may want that itself
    hold = HOLDERS[holder].format(name=name, table=TABLES[name])
    code = AT_EXIT.format(others=others, hold=hold)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "held\n")


def test_a_metric_may_have_the_name_of_the_axis() -> None:
    found = align({"step": Curve(series(count=2), START)}, "step")
    for names in (found.to_pandas().columns, found.to_polars().columns):
        assert list(names) == ["step_", "step"]


def test_every_producer_is_installed_for_these_tests() -> None:
    assert all(import_module(name) for name in PRODUCERS)


def test_the_store_gives_frames() -> None:
    with holdfast.open() as store, store.start_run("frames", run_id="r") as run:
        run.log({"loss": 0.5}, step=3)
        assert pyarrow.table(store.metrics("r", "loss")).column("step").to_pylist() == [3]
        assert store.metrics(["r"], "loss").to_polars()["r"].to_list() == [0.5]
