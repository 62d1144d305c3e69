"""`Digest`: the sha256 of some bytes, as a value that cannot be mistaken for a path or a plain string."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from holdfast.errors import InvalidValue

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A sha256 in lower-case hex. `str()` gives the public form `sha256:<64 hex>`.

    Raises InvalidValue for anything but 64 lower-case hexadecimal digits.
    """

    hex: str

    def __post_init__(self) -> None:
        if not isinstance(self.hex, str) or not _HEX.match(self.hex):
            raise InvalidValue(
                f"{self.hex!r} is not a sha256: give 64 lower-case hexadecimal digits",
                value=self.hex,
            )

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """The digest of `data`."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<64 hex>`. Raises InvalidValue for any other text."""
        if not isinstance(text, str) or not text.startswith("sha256:"):
            raise InvalidValue(
                f"{text!r} is not a digest: write it as sha256:<64 hexadecimal digits>",
                value=text,
            )
        return cls(text.removeprefix("sha256:"))

    @classmethod
    def from_raw(cls, raw: bytes) -> Digest:
        """From the 32 raw bytes that the binary formats carry."""
        return cls(raw.hex())

    @property
    def raw(self) -> bytes:
        """The 32 bytes themselves."""
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
