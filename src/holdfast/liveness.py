"""Is the writer of a run still there? By its process where we can look, else by its heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from holdfast import process
from holdfast.backend.base import Backend, Stat

BEAT_SECONDS = 15
STALE_SECONDS = 120


def is_dead(identity: dict[str, Any] | None, last_beat: Callable[[], int | None]) -> bool:
    """True if the process `identity` is surely gone.

    On this machine the process table answers. For another one silence of STALE_SECONDS does, and only
    then `last_beat` is asked when it was last heard of (ns since 1970 by this machine's clock).
    """
    if not identity:
        return True
    alive = process.is_alive(identity)
    if alive is not None:
        return not alive
    beat = last_beat()
    return beat is None or now() - beat > STALE_SECONDS * 1_000_000_000


def now() -> int:
    """This machine's clock, in ns since 1970."""
    return time.time_ns()


def heard(backend: Backend, beat: Stat) -> int:
    """When a heartbeat was written, by this machine's clock; a bucket's own may be another."""
    inner: Any = backend
    while inner is not None:
        if (ahead := getattr(inner, "clock_ahead", None)) is not None:
            return beat.modified - int(ahead())
        inner = getattr(inner, "inner", None)
    return beat.modified
