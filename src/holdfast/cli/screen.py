"""A terminal that is drawn over in place: no flicker, and everything as it was when it is left."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from holdfast.cli.plain import raw

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it show the frame in one piece


def is_screen() -> bool:
    """True when standard output is a terminal that can be drawn over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def has_colour() -> bool:
    """False when NO_COLOR is set (https://no-color.org)."""
    return is_screen() and not os.environ.get("NO_COLOR")


class Screen:
    """While it is open, `draw` replaces what is to be seen. SIGTERM ends it as Ctrl-C does."""

    def __init__(self) -> None:
        self._before: Any = None

    def size(self) -> tuple[int, int]:
        """(columns, lines) as they are now."""
        found = shutil.get_terminal_size((80, 24))
        return found.columns, found.lines

    def draw(self, lines: list[str]) -> None:
        """Each line is written over the old one and its rest erased: nothing is cleared first."""
        body = "\r\n".join(f"{line}\x1b[K" for line in lines)
        raw(sys.stdout).write(f"{_BEGIN}\x1b[H{body}\x1b[J{_END}")
        sys.stdout.flush()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _stop)
        raw(sys.stdout).write(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        raw(sys.stdout).write(_LEAVE)
        sys.stdout.flush()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
