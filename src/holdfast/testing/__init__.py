"""For those who write a backend: the contract it must pass (needs pytest)."""

from __future__ import annotations

from holdfast.testing.contract import BackendContract

__all__ = ["BackendContract"]
