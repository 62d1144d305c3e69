"""How the bytes of one chunk are stored: registered codecs, found by a quick trial, always exact.

    0 raw      the bytes
    1 zstd     one zstd frame
    2 planes   numbers with their bytes regrouped, each plane packed on its own
    3 delta    the difference to a base of the same length, in planes
    4 xor      exclusive or with a base, in planes
    5 context  as delta, but sorted by the exponent of the base
    6 blend    as context, against a mixture of two bases

Ids are never reused. `encode` decodes what it made and compares before it returns, so what cannot be
read back is never stored. No I/O, no state between calls; any number of threads may call, and the
heavy work is done without the interpreter lock. See docs/format/codecs.md.
"""

from __future__ import annotations

from holdfast.codecs.chunk import BASES_OF, MAX_BASES, Encoded, decode, encode
from holdfast.codecs.family import MAX_DEPTH, base_of
from holdfast.codecs.trial import BLEND, CONTEXT, DELTA, PLANES, RAW, XOR, ZSTD

__all__ = [
    "BASES_OF", "BLEND", "CONTEXT", "DELTA", "MAX_BASES", "MAX_DEPTH", "PLANES", "RAW", "XOR", "ZSTD",
    "Encoded", "base_of", "decode", "encode",
]  # fmt: skip
