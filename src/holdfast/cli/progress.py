"""A progress bar on stderr, for a person, and only when something takes more than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from holdfast.cli.options import at_terminal
from holdfast.cli.table import duration

_QUIET_SECONDS = 1.0
_EVERY_SECONDS = 0.1
_WIDTH = 30


class Progress:
    """`bar(done, total)` as often as one likes; it draws when it should. With `show`, which makes text
    of an amount, it also says how much a second."""

    def __init__(self, what: str, show: Callable[[int], str] | None = None) -> None:
        self.what = what
        self._show = show
        self._begun = self._drawn = time.monotonic()
        self._visible = False
        self._wanted = at_terminal()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        quiet = now - self._begun < _QUIET_SECONDS or now - self._drawn < _EVERY_SECONDS
        if not self._wanted or quiet or not total:
            return
        self._drawn, self._visible = now, True
        part = min(1.0, done / total)
        filled = int(part * _WIDTH)
        left = (now - self._begun) * (1 - part) / part if part else None
        bar = "━" * filled + "─" * (_WIDTH - filled)
        ends = f", {duration(left)} left" if left is not None else ""
        amount = f"{done:,}/{total:,}"
        if self._show:
            rate = self._show(int(done / max(now - self._begun, 1e-9)))
            amount = f"{self._show(done)} of {self._show(total)}, {rate}/s"
        sys.stderr.write(f"\r\x1b[K{self.what} {bar} {amount}{ends}")
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
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
