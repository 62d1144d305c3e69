"""The answer to `store.sql`: rows with the names of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SqlRows:
    """Iterating gives one tuple a row, in the order of `columns`."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        return self.rows[place]

    def __repr__(self) -> str:
        return f"<SqlRows: {len(self.rows)} × ({', '.join(self.columns)})>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row; of columns of one name the last counts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`. Raises ImportError when pandas is not installed."""
        from importlib import import_module  # it brings no types

        frame = import_module("pandas").DataFrame
        return frame.from_records(self.rows, columns=self.columns)
