"""What a new process pays before it does anything."""

from __future__ import annotations

from pathlib import Path

from benchmarks import measure


def run(place: Path) -> None:
    """What `import holdfast` and the first open cost."""
    bare = measure.in_new_process("pass")
    url = str(place / "lab")
    cases = {
        "import holdfast": "import holdfast",
        "import and open a store": f"import holdfast; holdfast.open({url!r})",
        "holdfast --help": "import sys; sys.argv=['holdfast','--help']\n"
        "from holdfast.cli import main\ntry: main()\nexcept SystemExit: pass",
    }
    print("| new process | ms beyond `python -c pass` |")
    print("|---|---|")
    for name, code in cases.items():
        print(f"| {name} | {1e3 * (measure.in_new_process(code) - bare):.1f} |")
