"""`python -m benchmarks [SECTION]...`: prints Markdown tables; without a section, all of them."""

from __future__ import annotations

import resource
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks import measure

# Each is a module of this package with a function `run(place)`, in the order of benchmarks/README.md.
SECTIONS = [
    "imports", "log", "create", "processes", "size", "read", "overview", "keys", "compact", "frames", "tail",
    "catalog", "artifacts", "dedup", "remote", "outage", "sync", "fsck",
]  # fmt: skip


def main() -> int:
    wanted = sys.argv[1:] or SECTIONS
    for name in wanted:
        if name not in SECTIONS:
            print(f"there is no section {name!r}: give {', '.join(SECTIONS)}", file=sys.stderr)
            return 2
    print(f"{measure.machine()}\n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    for name in wanted:
        print(f"## {name}\n")
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=Path.cwd()) as place:
            import_module(f"benchmarks.{name}").run(Path(place))
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
