"""verify: fsck at its full depth, of one run or of the store; only damage counts."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.ops.findings import Finding
from holdfast.ops.fsck import fsck
from holdfast.repository import Repository

Progress = Callable[[int, int], None]  # (bytes checked, all)

__all__ = ["Finding", "verify"]


def verify(
    repository: Repository, run_id: str | None = None, progress: Progress | None = None
) -> list[Finding]:
    """Check every byte of one run; or of every experiment and run in the store, and of every blob,
    also of those that nothing refers to."""
    tell: Progress = progress or (lambda done, total: None)
    return fsck(repository, run_id=run_id, progress=tell).findings
