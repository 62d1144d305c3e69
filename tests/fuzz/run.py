"""Trying inputs, and saying which one is not taken as it should be."""

from __future__ import annotations

import random
import time
import tracemalloc
from dataclasses import dataclass

from holdfast.errors import HoldfastError

from .targets import TARGETS

MOST_BYTES = 64 << 20  # of memory for one small input


@dataclass
class Failure:
    """An input that is no error of Holdfast, or takes too much."""

    target: str
    seed: int
    data: bytes
    problem: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --target '{self.target}' --seed {self.seed}"
        return f"{self.target}: {self.problem}\n    {again}\n    {self.data[:300].hex()}"


def made(target: str, seed: int) -> bytes:
    """Input `seed` of a target, always the same."""
    chance, about = random.Random(f"{target} {seed}"), TARGETS[target]
    return about.change(chance, chance.choice(about.seeds))


def tried(target: str, seed: int, *, memory: bool = False) -> Failure | None:
    """Try one input; with `memory`, also how much it takes."""
    data = made(target, seed)
    if memory:
        tracemalloc.start()
    try:
        TARGETS[target].call(data)
    except HoldfastError:
        pass
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return Failure(target, seed, data, f"{type(error).__name__}: {error}"[:300])
    finally:
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
        tracemalloc.stop()
    if peak > MOST_BYTES:
        return Failure(target, seed, data, f"it takes {peak:,} bytes of memory")
    return None


def run(targets: list[str], first: int, each: int) -> tuple[list[Failure], float, str]:
    """(failures, seconds of the slowest input, which that was)."""
    failures, slowest, which = [], 0.0, ""
    for target in targets:
        for seed in range(first, first + each):
            began = time.perf_counter()
            failure = tried(target, seed, memory=seed % 16 == 0)
            took = time.perf_counter() - began
            if took > slowest:
                slowest, which = took, f"{target} {seed}"
            if failure:
                failures.append(failure)
                break
    return failures, slowest, which
