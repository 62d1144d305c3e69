"""A progress bar on stderr, for a person, and only when something takes more than a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from holdfast.cli.options import at_terminal
from holdfast.cli.plain import raw
from holdfast.cli.table import duration, size

_QUIET_SECONDS = 1.0
_EVERY_SECONDS = 0.1
_WIDTH = 30


class Progress:
    """`bar(done, total)` as often as one likes; it draws when it should."""

    def __init__(self, what: str, *, sizes: bool = False) -> None:
        self.what = what
        self._sizes = sizes  # bytes are counted: they are shown as sizes, with a rate
        self._first: int | None = None  # what was done before we began
        self._begun = self._drawn = time.monotonic()
        self._visible = False
        self._wanted = at_terminal()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        quiet = now - self._begun < _QUIET_SECONDS or now - self._drawn < _EVERY_SECONDS
        if not self._wanted or quiet or not total:
            return
        self._drawn, self._visible = now, True
        part = min(1.0, done / total)
        filled = int(part * _WIDTH)
        rate = (done - self._first) / (now - self._begun)
        bar = "━" * filled + "─" * (_WIDTH - filled)
        ends = f", {duration((total - done) / rate)} left" if rate > 0 else ""
        counts = f"{done:,}/{total:,}"
        if self._sizes:
            counts = f"{size(done)} of {size(total)}, {size(rate)}/s"
        raw(sys.stderr).write(f"\r\x1b[K{self.what} {bar} {counts}{ends}")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._visible:
            raw(sys.stderr).write("\r\x1b[K")
            sys.stderr.flush()
