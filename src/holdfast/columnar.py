"""Columns of numbers as data frames: what a Series, a SeriesMap and an Aligned have in common.

A frame is a list of columns of one length, in one or more batches with the same columns. pandas and
polars are built from the numpy arrays; everything that speaks Arrow takes `__arrow_c_stream__`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import MissingDependency

Kind = Literal["uint64", "float64", "int32", "time", "text"]


@dataclass(frozen=True, slots=True)
class Label:
    """The word `words[code]`, `count` times: the key that all rows of a batch have."""

    words: tuple[str, ...]
    code: int
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def word(self) -> str:
        return self.words[self.code]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `data` is int64 in ns since 1970 for a time, a Label for a text.

    `present` is False where a row has no value; None says that every row has one.
    """

    name: str
    kind: Kind
    data: NDArray[Any] | Label
    present: NDArray[np.bool_] | None = None


Batch = list[Column]


class Columnar:
    """Something with columns; a class that has it says which in `_batches`."""

    __slots__ = ()

    def _batches(self) -> Iterable[Batch]:
        """At least one batch; all have the same names and kinds."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """A pandas DataFrame; times are in UTC, and a missing value is NaN.

        Raises MissingDependency when pandas is not installed.
        """
        pandas = _library("pandas", "to_pandas")
        frames = [
            pandas.DataFrame({c.name: _for_pandas(pandas, c) for c in batch}, copy=False)
            for batch in self._batches()
        ]
        return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)

    def to_polars(self) -> Any:
        """A polars DataFrame; times are in UTC, a missing value is null, NaN stays NaN.

        Raises MissingDependency when polars is not installed.
        """
        polars = _library("polars", "to_polars")
        return polars.concat(
            [polars.DataFrame([_for_polars(polars, c) for c in b]) for b in self._batches()]
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns by Arrow's PyCapsule protocol, numbers and times without a copy.

        `pyarrow.table(x)`, `polars.DataFrame(x)` and DuckDB's `from x` call it. Raises
        MissingDependency when none of pyarrow, arro3-core and nanoarrow is installed.
        """
        from holdfast.arrow import stream

        return stream(list(self._batches()), requested_schema)


def _library(name: str, method: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f"{method} needs {name}, which is not installed here: pip install {name}",
            missing=name,
        ) from error


def _for_pandas(pandas: Any, column: Column) -> Any:
    data = column.data
    if isinstance(data, Label):
        codes = np.full(data.count, data.code, np.int32)
        return pandas.Categorical.from_codes(codes, categories=data.words)
    if column.kind == "time":
        return pandas.DatetimeIndex(data.view("datetime64[ns]")).tz_localize("UTC")
    return data


def _for_polars(polars: Any, column: Column) -> Any:
    data = column.data
    if isinstance(data, Label):
        return polars.Series(column.name, [data.word]).new_from_index(0, data.count)
    series = polars.Series(column.name, data)
    if column.kind == "time":
        return series.cast(polars.Datetime("ns", "UTC"))
    if column.present is not None:
        return series.set(polars.Series(~column.present), None)
    return series
