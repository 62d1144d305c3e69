"""`Timestamp`: a moment, exact to the nanosecond, which `datetime` cannot hold."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from holdfast.errors import InvalidValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_MOST = int((datetime.max.replace(microsecond=0, tzinfo=UTC) - _EPOCH).total_seconds())
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """`ns` nanoseconds since 1970-01-01T00:00:00Z. `str()` is RFC 3339 in UTC with 0, 3, 6 or 9
    fraction digits, the shortest exact form. Raises InvalidValue outside the years 1 to 9999."""

    ns: int

    def __post_init__(self) -> None:
        if type(self.ns) is not int or not _LEAST <= self.ns // 1_000_000_000 <= _MOST:
            raise InvalidValue(
                f"{self.ns!r} is no moment in ns since 1970 within the years 1 to 9999",
                value=self.ns,
            )

    @classmethod
    def now(cls) -> Timestamp:
        """The current time."""
        return cls(time.time_ns())

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """Read RFC 3339 with any offset. Raises InvalidValue; a time without an offset is refused."""
        found = _FORM.match(text) if isinstance(text, str) else None
        if not found:
            raise InvalidValue(
                f"{text!r} is no time: write it as 2025-01-15T12:00:00Z, with Z or an offset",
                value=text,
            )
        *whole, fraction, offset = found.groups()
        try:
            moment = datetime(*map(int, whole), tzinfo=UTC)  # type: ignore[misc,arg-type]
            seconds = int((moment - _EPOCH).total_seconds()) - _offset_seconds(offset)
        except ValueError as error:
            raise InvalidValue(f"{text!r} is no time: {error}", value=text) from error
        return cls(seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")))

    @classmethod
    def from_any(cls, value: Timestamp | datetime | str | int) -> Timestamp:
        """From a Timestamp, an aware datetime, RFC 3339 text, or ns since 1970."""
        if isinstance(value, Timestamp):
            return value
        if isinstance(value, datetime):
            return cls._from_datetime(value)
        return cls.parse(value) if isinstance(value, str) else cls(value)

    @classmethod
    def _from_datetime(cls, value: datetime) -> Timestamp:
        if value.tzinfo is None:
            raise InvalidValue(f"{value} has no time zone: use datetime.now(UTC)", value=value)
        past = value - _EPOCH
        return cls((past.days * 86_400 + past.seconds) * 1_000_000_000 + past.microseconds * 1000)

    def to_datetime(self) -> datetime:
        """As an aware datetime, cut to whole microseconds."""
        return _EPOCH + timedelta(microseconds=self.ns // 1000)

    def __str__(self) -> str:
        seconds, fraction = divmod(self.ns, 1_000_000_000)
        moment = _EPOCH + timedelta(seconds=seconds)
        digits = f"{fraction:09d}"
        while digits.endswith("000"):
            digits = digits[:-3]
        return moment.strftime(f"{moment.year:04d}-%m-%dT%H:%M:%S") + (
            f".{digits}Z" if digits else "Z"
        )


def _offset_seconds(offset: str) -> int:
    if offset in "Zz":
        return 0
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(f"the offset {offset} is out of range")
    return (1 if offset[0] == "+" else -1) * (hours * 3600 + minutes * 60)
