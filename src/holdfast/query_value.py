"""Values in SQL: what a field, a literal or arithmetic gives, and how two of them compare.

A value is a number or a text; each has its own column or expression, NULL when the value is of the
other kind. Missing is NULL in both. Every condition made here is 0 or 1, never NULL, so `not` and
`or` mean what they say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.query_fields import Field

Scalar = int | float | str | bytes
Condition = Callable[[str | None, str | None], str]  # (number, text) -> SQL that may be NULL


def number(value: float) -> int | float:
    """`value` as SQLite holds it: 64 bits, whole numbers beyond that as the nearest float."""
    if isinstance(value, float) or -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class Params:
    """The values that a statement is given by name, so that nothing of the user's is ever SQL."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.values: dict[str, Scalar] = {}

    def add(self, value: Scalar) -> str:
        name = f"{self._prefix}{len(self.values)}"
        self.values[name] = value
        return f":{name}"


@dataclass(frozen=True, slots=True)
class Value:
    """A value in SQL. `rows` is set for a field that lies in a table of its own."""

    num: str | None
    text: str | None
    is_constant: bool = False
    is_time: bool = False
    rows: Rows | None = None

    def test(self, condition: Condition) -> str:
        """SQL, 0 or 1: does the value meet `condition`?"""
        if self.rows:
            return self.rows.any(condition(self.rows.num, self.rows.text))
        return f"coalesce({condition(self.num, self.text)}, 0)"

    @property
    def any_kind(self) -> str:
        """SQL for the number or the text, whichever it is."""
        if self.rows:
            return str(self.rows.of_run(either(self.rows.num, self.rows.text)))
        return either(self.num, self.text)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the values of one field lie: a test runs through them once, not once for each run."""

    outer: str
    key: str
    source: str  # what follows FROM, up to a condition
    num: str | None
    text: str | None

    def any(self, condition: str) -> str:
        return f"{self.outer} IN (SELECT {self.key} FROM {self.source} {condition})"

    def of_run(self, column: str | None) -> str | None:
        if column is None:
            return None
        return f"(SELECT {column} FROM {self.source} {self.key} = {self.outer})"


def of_field(field: Field, params: Params) -> Value:
    """The value of `field` of the run `r`."""
    if field.table is None:
        return Value(field.num, field.text, is_time=field.is_time)
    outer, key = "r.id", "run"
    if field.table == "experiment":
        outer, key = "r.experiment_id", "experiment_id"
    where = f"path = {path_id(field.path, params)} AND" if field.path else ""
    rows = Rows(outer, key, f"{field.table} WHERE {where}", field.num, field.text)
    return Value(rows.of_run(field.num), rows.of_run(field.text), rows=rows)


def path_id(name: str, params: Params) -> str:
    return f"(SELECT id FROM path WHERE name = {params.add(name)})"


def has_name(name: str, params: Params) -> str:
    """SQL, 0 or 1: does the run have `name`, or values within it if it is a group of a config?"""
    wanted = f"name = {params.add(name)}"
    if name.startswith("config."):  # `/` is the character after `.`
        low, high = params.add(f"{name}."), params.add(f"{name}/")
        wanted += f" OR name >= {low} AND name < {high}"
    table = "metric" if name.startswith("metrics.") else "field"
    return f"r.id IN (SELECT run FROM {table} WHERE path IN (SELECT id FROM path WHERE {wanted}))"


def either(num: str | None, text: str | None) -> str:
    """SQL for whichever of the two there is; NULL if there is neither."""
    parts = [part for part in (num, text) if part]
    return parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})" if parts else "NULL"


def compare(op: str, left: Value, right: Value) -> str:
    """SQL, 0 or 1: `left op right`; 0 when one is missing or they are not of one kind."""
    if left.is_constant and not right.is_constant:
        left, right, op = right, left, _MIRROR.get(op, op)

    def condition(num: str | None, text: str | None) -> str:
        return either(
            f"{num} {op} {right.num}" if num and right.num else None,
            f"{text} {op} {right.text}" if text and right.text else None,
        )

    if right.is_constant:
        return left.test(condition)
    return f"coalesce({condition(left.num, left.text)}, 0)"


_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def is_missing(value: Value) -> str:
    """SQL, 0 or 1: is the value None, NaN or not there at all?"""
    return f"NOT {value.test(lambda num, text: f'{either(num, text)} IS NOT NULL')}"


def is_truthy(value: Value) -> str:
    """SQL, 0 or 1: a number that is not 0, a text that is not empty."""
    return value.test(lambda num, text: either(num and f"{num} != 0", text and f"{text} != ''"))


def is_among(value: Value, members: list[Value], *, negated: bool) -> str:
    """SQL, 0 or 1: is the value one of `members`? Negated: is it none of those of its kind?"""
    op = "NOT IN" if negated else "IN"
    nums = ", ".join(member.num for member in members if member.num)
    texts = ", ".join(member.text for member in members if member.text)
    return value.test(
        lambda num, text: either(
            f"{num} {op} ({nums})" if num and nums else None,
            f"{text} {op} ({texts})" if text and texts else None,
        )
    )


def contains(whole: Value, part: Value, *, negated: bool = False) -> str:
    """SQL, 0 or 1: does the text `whole` contain the text `part`? 0 if one of them is no text."""
    op = "= 0" if negated else "> 0"

    def condition(_: str | None, text: str | None) -> str:
        return f"instr({text}, {part.text}) {op}" if text and part.text else "NULL"

    if part.is_constant:
        return whole.test(condition)
    return f"coalesce({condition(whole.num, whole.text)}, 0)"


def starts_with(value: Value, start: str) -> str:
    return value.test(lambda _, text: f"instr({text}, {start}) = 1" if text else "NULL")


def ends_with(value: Value, end: str, size_bytes: int) -> str:
    """`end` is SQL for the bytes of the ending in UTF-8, and there are `size_bytes` of them."""

    def condition(_: str | None, text: str | None) -> str:
        if not text or not size_bytes:
            return f"{text} IS NOT NULL" if text else "NULL"
        return f"substr(CAST({text} AS BLOB), -{size_bytes}) = {end}"

    return value.test(condition)
