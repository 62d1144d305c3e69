"""Is the writer of a run still there? By its process where we can look, else by its heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from holdfast import process

BEAT_SECONDS = 15
STALE_SECONDS = 120


def is_dead(identity: dict[str, Any] | None, last_beat: Callable[[], int | None]) -> bool:
    """True if the process `identity` is surely gone.

    On this machine the process table answers. For another one silence of STALE_SECONDS does, and only
    then `last_beat` is asked when it was last heard of (ns since 1970).
    """
    if not identity:
        return True
    alive = process.is_alive(identity)
    if alive is not None:
        return not alive
    beat = last_beat()
    return beat is None or time.time_ns() - beat > STALE_SECONDS * 1_000_000_000
