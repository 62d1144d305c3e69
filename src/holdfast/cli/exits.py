"""From an error to a sentence and an exit code. The codes are a promise: scripts depend on them."""

from __future__ import annotations

import os
import sys
import traceback

from holdfast.errors import (
    BackendError,
    Corrupt,
    Exists,
    HoldfastError,
    InvalidState,
    NotAStore,
    NotFound,
    UnsupportedFormat,
)

OK = 0
FINDINGS = 1  # the command worked, and what it looked at is not well
USAGE = 2
NOT_FOUND = 3
DAMAGED = 4
UNUSABLE = 5  # no store there, no access, no space, a newer format
CONFLICT = 6
INTERRUPTED = 130
MEANINGS = {
    OK: "done",
    FINDINGS: "done, and something was found: damage (`fsck`, `verify`, `push`), bad lines (`log`), "
    "a bad end (`watch`)",
    USAGE: "the command line, a value or a query has a mistake",
    NOT_FOUND: "a run, metric, artifact or file that was named is not there",
    DAMAGED: "stored bytes are damaged; the message names the file",
    UNUSABLE: "the store cannot be used: none there, no access, disk full, a newer format",
    CONFLICT: "something is in the way: another process writes the run, another file is there, two stores"
    " changed one run",
    INTERRUPTED: "stopped by Ctrl-C",
}


def code_of(error: HoldfastError | OSError) -> int:
    """The exit code that stands for `error`."""
    if isinstance(error, (NotFound, FileNotFoundError)):
        return NOT_FOUND
    if isinstance(error, Corrupt):
        return DAMAGED
    if isinstance(error, (InvalidState, Exists, FileExistsError)):
        return CONFLICT
    if isinstance(error, (NotAStore, UnsupportedFormat, BackendError, OSError)):
        return UNUSABLE
    return USAGE


def complain(message: str) -> None:
    """One sentence on stderr; with HOLDFAST_TRACEBACK set, what led there too."""
    if os.environ.get("HOLDFAST_TRACEBACK"):
        traceback.print_exc()
    print(f"holdfast: {message}", file=sys.stderr)


def sentence(error: HoldfastError | OSError) -> str:
    """What to tell a person."""
    if isinstance(error, HoldfastError):
        return error.message
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
