"""Every state that processes can bring about, step by step in any order; a process may stop at any step,
since what comes after is explored without it as well."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

Step = tuple[str, str]  # (process, what it did)
Successors = Callable[[Hashable], Iterable[tuple[Step, Hashable]]]


@dataclass(frozen=True)
class Explored:
    """`schedule` is a shortest one that loses something; None when no state does."""

    states: int
    schedule: tuple[Step, ...] | None


def explore(
    first: Hashable,
    successors: Successors,
    is_lost: Callable[[Hashable], bool],
    most: int = 50_000_000,
) -> Explored:
    """Breadth first, so that a schedule found is a shortest one. Raises OverflowError past `most`."""
    came_from: dict[Hashable, tuple[Step, Hashable] | None] = {first: None}
    todo = deque([first])
    while todo:
        state = todo.popleft()
        if is_lost(state):
            return Explored(len(came_from), _schedule(came_from, state))
        for step, after in successors(state):
            if after not in came_from:
                came_from[after] = (step, state)
                todo.append(after)
        if len(came_from) > most:
            raise OverflowError(f"more than {most:,} states")
    return Explored(len(came_from), None)


def _schedule(
    came_from: dict[Hashable, tuple[Step, Hashable] | None], state: Hashable
) -> tuple[Step, ...]:
    steps = []
    while (before := came_from[state]) is not None:
        step, state = before
        steps.append(step)
    return tuple(reversed(steps))
