"""Work done ahead of whoever takes the results: on several threads, in order, and never far ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

WORKERS = max(2, min(8, os.cpu_count() or 2))
_END = object()


def in_order(
    work: Callable[[T], U],
    items: Iterable[T],
    *,
    workers: int = WORKERS,
    ahead: int | None = None,
) -> Iterator[U]:
    """`work(item)` of each item, in the order of the items, on so many threads.

    At most `ahead` items, three for each thread, are taken before their results are asked for. The first
    error comes out where its result would; what has begun then is waited for."""
    most = ahead or 3 * workers
    pool = ThreadPoolExecutor(workers, thread_name_prefix="holdfast")
    waiting: deque[Future[U]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(items: Iterator[T], *, ahead: int = 4) -> Iterator[T]:
    """The items, each made by one other thread while those before it are used."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="holdfast")
    waiting: deque[Future[object]] = deque()
    try:
        while True:
            while len(waiting) < ahead:
                waiting.append(pool.submit(next, items, _END))
            item = waiting.popleft().result()
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
