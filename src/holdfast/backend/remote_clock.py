"""What time it is where a bucket lies: heartbeats are times of its clock, read by machines with others."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

_GOOD_SECONDS = 600.0  # how long a measurement is believed
_ANSWER_SECONDS = 10.0


class Clock:
    """`endpoint` gives the address of the server, or None where that is not known."""

    def __init__(self, endpoint: Callable[[], str | None]) -> None:
        self._endpoint = endpoint
        self._measured: tuple[float, int] | None = None  # (when, by how much)

    def ahead(self) -> int:
        """By how many ns the server's clock is ahead of this machine's; 0 where it does not tell."""
        at, measured = time.monotonic(), self._measured
        if measured is None or at - measured[0] > _GOOD_SECONDS:
            self._measured = measured = at, self._measure()
        return measured[1]

    def _measure(self) -> int:
        try:
            endpoint = self._endpoint()
        except Exception:  # noqa: BLE001 - whatever a library makes of its configuration
            return 0
        before = now()
        there = server_time(endpoint) if endpoint else None
        return 0 if there is None else there - (before + now()) // 2


def now() -> int:
    """This machine's clock, in ns since 1970."""
    return time.time_ns()


def server_time(endpoint: str) -> int | None:
    """The time, in ns since 1970, of whoever answers HTTP at `endpoint`; None if he does not say.

    Any answer tells, also a refusal: no credentials are sent.
    """
    try:
        ask = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - the address of the store
        with urllib.request.urlopen(ask, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            headers: Any = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
        error.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    try:
        whole = parsedate_to_datetime(headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return None
    return int(whole * 1e9) + 500_000_000  # in the middle of that second
