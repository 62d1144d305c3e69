"""Where an artifact is cut into chunks, so that what two versions share has the same chunks in both.

`look` finds the tensors of a checkpoint without running anything in it. `pieces` then reads the artifact
once, front to back, and gives it in pieces: tensors in pieces of a fixed size, all else where its
contents say. No I/O here: the caller says how bytes are read. See docs/format/chunking.md.
"""

from __future__ import annotations

from holdfast.chunking.containers import look
from holdfast.chunking.contents import Contents, Doubt, Span
from holdfast.chunking.cutting import PIECE_BYTES, Ended, Piece, companions, pieces
from holdfast.chunking.sampling import sample

__all__ = [
    "PIECE_BYTES", "Contents", "Doubt", "Ended", "Piece", "Span", "companions", "look", "pieces", "sample",
]  # fmt: skip
