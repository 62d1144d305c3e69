"""What these tests need comes with `python3 do.py training`; elsewhere they are not collected."""

from __future__ import annotations

from importlib.util import find_spec

NEEDED = ("accelerate", "lightning", "ml_dtypes", "safetensors", "torch", "transformers")

if not all(map(find_spec, NEEDED)):
    collect_ignore_glob = ["test_*.py"]
