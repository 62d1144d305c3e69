"""Text from a store is shown as text: whoever wrote a name does not get to write to the terminal.

Control characters, and those that turn the direction of writing, come out as `\\u001b` and so on, in JSON the
same character still. What the command itself draws on a terminal goes to `raw` streams.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_CONTROLS = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: f"\\u{code:04x}" for code in _CONTROLS if chr(code) not in "\n\t"}
_IN_FILES = {
    code: text for code, text in _SHOWN.items() if chr(code) != "\r"
}  # a cell of a CSV may hold it


class Plain:
    """A text stream that writes nothing but text."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._shown = _SHOWN if inner.isatty() else _IN_FILES

    def write(self, text: str) -> int:
        return self.inner.write(text.translate(self._shown))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def raw(stream: Any) -> TextIO:
    """The stream behind, for what is no text: a screen, a bar."""
    found: TextIO = getattr(stream, "inner", stream)
    return found


@contextmanager
def plain() -> Iterator[None]:
    """While a command runs, all that it says is text."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Plain(before[0]), Plain(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
