"""The command line of the simulator."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

from .history import History, play
from .install import install
from .mutants import MUTANTS, hunt

FIRST_SEED = 0


def main() -> int:
    asked = _parser().parse_args()
    install()
    if asked.seed is not None:
        return replay(asked.seed, asked.verbose)
    if asked.mutant:
        return mutants(asked.mutant, asked.histories)
    return many(range(asked.first, asked.first + asked.histories), asked.jobs, asked.seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one history and show it")
    parser.add_argument("--histories", type=int, default=1000, help="how many to play")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after about so long"
    )
    parser.add_argument(
        "--mutant", help="break Holdfast in this way (or in `all`), and look for it"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="with --seed: every call of the backend"
    )
    return parser


def replay(seed: int, verbose: bool) -> int:
    log: list[str] = []
    try:
        trace = play(seed, log=log)
    except BaseException:  # noqa: BLE001 - shown as it is
        print(*log, sep="\n")
        traceback.print_exc()
        print(f"history {seed} fails. {smaller(seed)}")
        return 1
    if verbose:
        print(*log, sep="\n")
    print(
        f"history {seed} holds: {len(log)} calls of the backend, trace {trace & (1 << 64) - 1:016x}"
    )
    return 0


def mutants(wanted: str, most: int) -> int:
    """Look for bugs made on purpose; the exit code says whether each was found."""
    missed = 0
    for name in MUTANTS if wanted == "all" else [wanted]:
        count, problem, took = hunt(name, most, attempt)
        missed += problem is None
        print(
            f"{name}: {'history' if problem else 'not found in'} {count}, {took:.1f} s: {problem}"[
                :240
            ]
        )
    return 1 if missed else 0


def attempt(seed: int, **how: Any) -> str | None:
    """What went wrong in a history, in one line; None if nothing did."""
    try:
        play(seed, **how)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:600]}"
    return None


def smaller(seed: int) -> str:
    """The fewest seats and acts with which the history still fails: where to begin to look."""
    how: dict[str, Any] = {"without": ()}
    if attempt(seed, calm=True):
        how["calm"] = True
    for number in range(4):
        tried = {**how, "without": (*how["without"], number)}
        if len(tried["without"]) < len(History(seed).seats) and attempt(seed, **tried):
            how = tried
    for acts in (1, 2, 3, 4, 6, 8):
        if attempt(seed, **how, acts=acts):
            return f"It also fails as play({seed}, acts={acts}, {_said(how)})"
    return f"It also fails as play({seed}, {_said(how)})"


def _said(how: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in how.items())


def many(seeds: range, jobs: int, seconds: float) -> int:
    """Play them all; the exit code says whether every one held."""
    began, played, failed = time.monotonic(), 0, []
    for seed, problem in _results(seeds, jobs):
        played += 1
        if problem:
            failed.append(seed)
            print(
                f"history {seed}: {problem}\n    python -m tests.faults --seed {seed}", flush=True
            )
        if len(failed) >= 20 or time.monotonic() - began > seconds:
            break
    took = time.monotonic() - began
    rate = played / took * 60
    print(f"{played:,} histories, {len(failed)} losses, {took:.1f} s ({rate:,.0f} a minute)")
    return 1 if failed else 0


def _results(seeds: range, jobs: int) -> Iterator[tuple[int, str | None]]:
    if jobs == 1:
        yield from map(_one, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_one, seeds, chunksize=20)


def _one(seed: int) -> tuple[int, str | None]:
    return seed, attempt(seed)


if __name__ == "__main__":
    sys.exit("python -m tests.faults")
