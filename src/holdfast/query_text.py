"""The text of a query: its limits, Python's own parser, and errors that point at the mistake.

The text is parsed with `ast` and never evaluated by Python.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import threading
import tokenize
import warnings

from holdfast.errors import QueryError

MAX_LENGTH = 4000  # characters
MAX_DEPTH = 24  # operators inside operators; what the parser of SQLite takes, with room to spare
MAX_CONDITIONS = 500  # joined by and, or, or a chain: SQLite nests each of them in the next
_one_at_a_time = threading.Lock()
_WINDOW = 88  # characters of a long expression that an error shows
_HINTS = {
    "=": "compare with ==",
    "&": "join conditions with and",
    "|": "join conditions with or",
    "!": "negate a condition with not",
    "AND": "write and in small letters",
    "OR": "write or in small letters",
}


class Source:
    """One expression, and where each part of it stands."""

    def __init__(self, text: str) -> None:
        self.text = "".join(" " if char in "\r\n\t\f" else char for char in text)
        self._indent = len(self.text) - len(self.text.lstrip())
        self._bytes = self.text.strip().encode("utf-8", "surrogatepass")

    def parse(self) -> ast.expr:
        """The expression as a tree. Raises QueryError for a mistake in its grammar or its size."""
        self._check()
        try:
            tree = _parsed(self.text.strip())
        except SyntaxError as error:
            raise self._grammar(error) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self.error_at(f"not an expression: {error}", 0) from None
        self._check_depth(tree)
        self._check_conditions(tree)
        return tree

    def _grammar(self, error: SyntaxError) -> QueryError:
        end = len(self.text.rstrip())
        at = min(self._indent + error.offset - 1, end) if error.offset else end
        word = "".join(re.findall(r"\A(?:\w+|.)", self.text[at:]))
        if keyword.iskeyword(word) and self.text[:at].endswith("."):
            hint = f'{word} is a word of Python, so write ["{word}"]'
        else:
            hint = _HINTS.get(word, error.msg)
        return self.error_at(f"not an expression: {hint}", at)

    def _check(self) -> None:
        if not self._bytes:
            raise self.error_at("the expression is empty", 0)
        if len(self.text) > MAX_LENGTH:
            message = (
                f"the expression has {len(self.text)} characters and the limit is {MAX_LENGTH}"
            )
            raise self.error_at(message, MAX_LENGTH)
        for at, char in enumerate(self.text):
            if not char.isprintable():
                message = f"the expression holds the unprintable character {char!r}"
                raise self.error_at(f"{message}: write it as an escape in quotes", at)
        if "#" in self.text:
            self._refuse_comment()

    def _refuse_comment(self) -> None:
        # A line break counts as a space, so a comment would swallow the lines that follow it.
        try:
            for token in tokenize.generate_tokens(io.StringIO(self.text.strip()).readline):
                if token.type == tokenize.COMMENT:
                    raise self.error_at(
                        "a comment is not part of an expression", self._indent + token.start[1]
                    )
        except (tokenize.TokenError, SyntaxError):
            pass  # the parser says it better

    def _check_depth(self, tree: ast.expr) -> None:
        level: list[ast.AST] = [tree]
        depth = 0
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                message = f"the expression is nested more than {MAX_DEPTH} operators deep"
                raise self.error(f"{message}: write it as several", level[0])
            level = [child for node in level for child in _operands(node)]

    def _check_conditions(self, tree: ast.expr) -> None:
        count = 0
        for node in ast.walk(tree):
            if isinstance(node, ast.BoolOp):
                count += len(node.values)
            elif isinstance(node, ast.Compare):
                count += len(node.ops) - 1
        if count > MAX_CONDITIONS:
            message = f"the expression joins {count} conditions and the limit is {MAX_CONDITIONS}"
            raise self.error_at(f"{message}: use `in (1, 2, 3)`, or write it as several", 0)

    def error(self, message: str, node: ast.AST) -> QueryError:
        """A QueryError whose caret stands under `node`."""
        start = self._characters(getattr(node, "col_offset", 0))
        end = self._characters(getattr(node, "end_col_offset", None) or 0)
        return self.error_at(message, start, end)

    def error_at(self, message: str, column: int, end: int = 0) -> QueryError:
        """A QueryError whose caret stands under the characters from `column` to `end`."""
        column = min(column, len(self.text))
        first = max(0, column - _WINDOW // 2) if len(self.text) > _WINDOW else 0
        window = self.text[first : first + _WINDOW]
        shown = "".join(char if char.isprintable() else "\ufffd" for char in window)
        left = "…" if first else ""
        right = "…" if first + _WINDOW < len(self.text) else ""
        width = max(1, min(end, first + _WINDOW) - column)
        caret = " " * (column - first + len(left)) + "^" * width
        return QueryError(
            f"{message}\n  {left}{shown}{right}\n  {caret}", column=column, expression=self.text
        )

    def words(self, node: ast.expr) -> str:
        """The text of `node` as it was written."""
        return self._bytes[node.col_offset : node.end_col_offset].decode("utf-8", "surrogatepass")

    def _characters(self, offset: int) -> int:
        """The column of a parser's offset, which counts bytes of UTF-8 and knows no indent."""
        return self._indent + len(self._bytes[:offset].decode("utf-8", "ignore"))


def _parsed(text: str) -> ast.expr:
    """What Python's parser makes of `text`, without its advice on '\\d' and `1and`, which is for programs."""
    if "\\" not in text and not re.search("[0-9][A-Za-z]", text):
        return ast.parse(text, mode="eval").body
    # The filters belong to the whole process, so two threads must not save and restore them at once.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval").body


def _operands(node: ast.AST) -> list[ast.AST]:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value  # the dots of a long name are not operators
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
