"""A Ceph of our own, as in the tests, for the figures of buckets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"


@contextmanager
def ceph(place: Path) -> Iterator[str | None]:
    """The URL of a server that runs meanwhile; None, after a line that says why, where there is none."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    from servers.ceph import Ceph

    reason = Ceph.missing()
    if reason:
        print(f"left out: {reason}")
        yield None
        return
    server = Ceph(place / "ceph")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
