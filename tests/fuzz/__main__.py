"""`python -m tests.fuzz --inputs 1000000`: try so many inputs, spread over all targets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # golden.py

from .run import TARGETS, run, tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed of each target")
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seed", type=int, help="with --target: this input alone")
    asked = parser.parse_args()
    if asked.seed is not None and asked.target:
        failure = tried(asked.target, asked.seed, memory=True)
        print(failure or f"{asked.target} {asked.seed} is taken as it should be")
        return 1 if failure else 0
    names = [asked.target] if asked.target else list(TARGETS)
    each = -(-asked.inputs // len(names))
    failures, slowest, which = run(names, asked.first, each)
    print(*failures, sep="\n")
    count = each * len(names)
    print(f"{count:,} inputs, {len(failures)} failures; the slowest took {slowest:.2f} s ({which})")
    return 1 if failures else 0


sys.exit(main())
