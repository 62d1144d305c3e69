"""The command line: `holdfast`. It parses, calls the public API, and prints."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see docs/reference/cli.md)."""
    from holdfast.cli.app import run

    return run(argv)
