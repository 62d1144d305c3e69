"""Queries: a safe subset of Python expressions, compiled to SQL over the tables of the catalog.

    config.optim.lr < 1e-3 and metrics["train/loss"].last < 0.5 and status == 'Success'

A comparison with a value that is missing, NaN or of another kind is false, never an error; a name
that no run has is a mistake, and the error points at it. Nothing is evaluated by Python, and no
text of the user's becomes SQL: names and literals travel as parameters.

The SQL speaks of the run as `r`; catalog_schema.py has the tables.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from holdfast import query_value as sql
from holdfast.errors import InvalidValue, QueryError
from holdfast.query_fields import KEYED, explain, is_group, name_parts, resolve
from holdfast.query_text import Source
from holdfast.query_value import Params, Scalar, Value, number
from holdfast.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class Compiled:
    """A piece of SQL and the values of its named parameters."""

    sql: str
    params: dict[str, Scalar]


def compile_where(text: str, known_fields: Collection[str]) -> Compiled:
    """The condition `text` as SQL that is 0 or 1 for the run `r`.

    `known_fields` are the names that some run has, as `Catalog.field_names()` gives them.
    Raises QueryError, with the 0-based `column` of the mistake.
    """
    compiler = _Compiler(_source(text), known_fields, "w")
    return Compiled(compiler.truth(compiler.source.parse()), compiler.params.values)


def compile_order(text: str | Sequence[str], known_fields: Collection[str]) -> Compiled:
    """The terms of an ORDER BY: names with commas between them, `-` before one for descending.

    Runs that lack the value come last either way. Raises QueryError.
    """
    if isinstance(text, (list, tuple)) and all(isinstance(term, str) for term in text):
        text = ", ".join(text)
    compiler = _Compiler(_source(text), known_fields, "o")
    tree = compiler.source.parse()
    terms = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    return Compiled(", ".join(compiler.order(term) for term in terms), compiler.params.values)


def _source(text: object) -> Source:
    if not isinstance(text, str):
        message = f"a query is text, not {type(text).__name__}: {text!r:.80}"
        raise QueryError(message, column=0, expression=str(text))
    return Source(text)


_COMPARE = {
    ast.Eq: "=", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="
}  # fmt: skip
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "* 1.0 /"}
_METHODS = ("startswith", "endswith", "contains")


class _Compiler:
    """Walks the tree once; what it does not know is refused with the place."""

    def __init__(self, source: Source, known: Collection[str], prefix: str) -> None:
        self.source = source
        self.params = Params(prefix)
        self._known = known if isinstance(known, (set, frozenset, dict)) else frozenset(known)

    # Conditions: SQL that is 0 or 1.

    def truth(self, node: ast.expr) -> str:
        if isinstance(node, ast.BoolOp):
            word = " AND " if isinstance(node.op, ast.And) else " OR "
            return f"({word.join(self.truth(value) for value in node.values)})"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"NOT {self.truth(node.operand)}"
        if isinstance(node, ast.Compare):
            return self._chain(node)
        if isinstance(node, ast.Call):
            return self._method(node)
        return sql.is_truthy(self.value(node))

    def _chain(self, node: ast.Compare) -> str:
        sides = [node.left, *node.comparators]
        steps = zip(sides, node.ops, sides[1:], strict=False)
        parts = [self._comparison(left, op, right) for left, op, right in steps]
        return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> str:
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self.source.error("`is` takes only None: compare with == or !=", right)
            missing = sql.is_missing(self.value(left))
            return missing if isinstance(op, ast.Is) else f"NOT {missing}"
        if isinstance(op, (ast.In, ast.NotIn)):
            return self._membership(left, right, isinstance(op, ast.NotIn))
        a, b = self.value(left), self.value(right)
        if a.is_time or b.is_time:
            a, b = self._time(a, left), self._time(b, right)
        return sql.compare(_COMPARE[type(op)], a, b)

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool) -> str:
        if isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            members = [self._constant(member) for member in right.elts]
            if not members:
                raise self.source.error("nothing is in an empty list", right)
            return sql.is_among(self._plain(left), members, negated=negated)
        parts = name_parts(right) or [""]
        if parts[0] not in KEYED or not is_group(".".join(parts), self._known):
            return sql.contains(self._plain(right), self._plain(left), negated=negated)
        found = self._has_key(parts, left)
        if resolve(parts, self._known):  # a group in one run may be a text in another
            found = f"({found} OR {sql.contains(self._plain(right), self._plain(left))})"
        return f"{'NOT ' if negated else ''}{found}"

    def _has_key(self, parts: list[str], key: ast.expr) -> str:
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            raise self.source.error(f"a key of {'.'.join(parts)} is text in quotes", key)
        return sql.has_name(".".join([*parts, self._text(key.value, key)]), self.params)

    def _method(self, node: ast.Call) -> str:
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS):
            raise self.source.error(f"the only calls are .{'(), .'.join(_METHODS)}()", node)
        word = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not (isinstance(word, ast.Constant) and isinstance(word.value, str)):
            raise self.source.error(f".{node.func.attr}() takes one text in quotes", node)
        whole, part = self._plain(node.func.value), self.value(word)
        if node.func.attr == "contains":
            return sql.contains(whole, part)
        if node.func.attr == "startswith":
            return sql.starts_with(whole, str(part.text))
        ending = word.value.encode()
        return sql.ends_with(whole, self.params.add(ending), len(ending))

    # Values: SQL that gives a number or a text.

    def value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant):
            return self._literal(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            a, b = self._plain(node.left), self._plain(node.right)
            op = _ARITHMETIC[type(node.op)]
            num = f"({a.num} {op} {b.num})" if a.num and b.num else None
            return Value(num, None, a.is_constant and b.is_constant)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            a = self._plain(node.operand)
            sign = "-" if isinstance(node.op, ast.USub) else "+"
            return Value(f"({sign} {a.num})" if a.num else None, None, a.is_constant)
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return self._field(node)
        raise self.source.error(_refusal(node), node)

    def order(self, node: ast.expr) -> str:
        """One term of an ORDER BY."""
        direction = "ASC"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            node, direction = node.operand, "DESC"
        return f"{self.value(node).any_kind} {direction} NULLS LAST"

    def _literal(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, str):
            return Value(None, self.params.add(self._text(value, node)), is_constant=True)
        if isinstance(value, (int, float)):
            return Value(self.params.add(number(value)), None, is_constant=True)
        if value is None:
            raise self.source.error("ask `is None` or `is not None`", node)
        raise self.source.error(_refusal(node), node)

    def _text(self, text: str, node: ast.expr) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.source.error("half of a surrogate pair is not text", node) from None
        return text

    def _constant(self, node: ast.expr) -> Value:
        value = self._plain(node)
        if not value.is_constant:
            raise self.source.error("a list holds only literals", node)
        return value

    def _plain(self, node: ast.expr) -> Value:
        value = self.value(node)
        if value.is_time:
            name = self.source.words(node)
            message = f"{name} is a time: compare it with a time, or use duration (seconds)"
            raise self.source.error(message, node)
        return value

    def _time(self, value: Value, node: ast.expr) -> Value:
        """The side of a comparison with a time."""
        if value.is_time:
            return value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            start = "T00:00:00Z" if len(node.value) == len("2025-01-31") else ""
            with contextlib.suppress(InvalidValue):
                moment = number(Timestamp.parse(node.value + start).ns)
                return Value(self.params.add(moment), None, is_constant=True)
        message = (
            "a time is written '2025-01-31' or '2025-01-31T12:00:00Z' (a date starts at 00:00Z)"
        )
        raise self.source.error(message, node)

    def _field(self, node: ast.expr) -> Value:
        parts = name_parts(node)
        if parts is None:
            raise self.source.error('a name is followed by .name, ["name"] or [0]', node)
        field = resolve(parts, self._known)
        if field is None:
            message = explain(parts, self.source.words(node), self._known)
            raise self.source.error(message, node)
        return sql.of_field(field, self.params)


def _refusal(node: ast.expr) -> str:
    if isinstance(node, (ast.BoolOp, ast.Compare, ast.Call)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return "a condition cannot be compared or added: join conditions with and, or, not"
    if isinstance(node, ast.BinOp):
        return "the operators on numbers are + - * /, and conditions are joined by and, or, not"
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return "a list stands only after `in`"
    return "this is not part of a query: see `holdfast runs --help`"
