"""Jobs for tests/test_work.py: other processes import them from here."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from holdfast.errors import Corrupt, NameExists
from holdfast.repository import Repository


def size(repository: Repository, name: str) -> tuple[int, int]:
    """(the size of a file, the process that looked)."""
    return repository.backend.stat(name).size_bytes, os.getpid()


def fail(repository: Repository, name: str) -> None:
    raise Corrupt(f"{name} is damaged: by order", place=name)


def die_once(repository: Repository, name: str) -> str:
    """Of the piece `last`, the first try takes its whole process down."""
    if name == "last":
        with suppress(NameExists):
            repository.backend.create("died", os.urandom(16))  # equal bytes would be taken as ours
            os.kill(os.getpid(), signal.SIGKILL)
    return name


def die(repository: Repository, name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
