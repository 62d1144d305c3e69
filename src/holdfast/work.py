"""Pieces of work, spread over whatever runs them: threads, processes, a Dask or a Ray cluster.

A *job* is a function of a module, `job(repository, piece) -> result`. Pieces are small values such as
names, results are small too, and both pickle where the workers are other processes: those open the store
by its URL. Jobs may run twice: a worker that is lost takes its pieces with it, and they are run again.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from holdfast.errors import InvalidValue, MissingDependency
from holdfast.repository import Repository, opened_anyway

P = TypeVar("P")
R = TypeVar("R")
Job = Callable[[Repository, P], R]

KINDS = "threads, processes, dask://scheduler:8786, ray://head:10001"
_AHEAD = 4  # pieces for each worker that are handed out before the first result is taken
_MOST_TRIES = 4  # of one piece; one that takes its worker down each time would take down all
_SOME = 16  # workers of an executor that does not say how many it has
# What the clusters raise when a worker went away; a failed job comes back as the error it raised.
_LOST = {"KilledWorker", "WorkerCrashedError", "NodeDiedError", "RaySystemError"}


@dataclass(frozen=True, slots=True)
class Place:
    """A store, as another process opens it. `options` are its storage options, pickled."""

    url: str
    options: bytes
    read_only: bool


class Workers:
    """An executor, or how to make one, and how many pieces it works on at once."""

    def __init__(
        self, make: Callable[[], Executor], count: int, *, here: bool, ours: bool = True
    ) -> None:
        self._make = make
        self.executor = make()
        self.count = max(1, count)
        self.here = here  # in this process: jobs are given the repository itself
        self._ours = ours

    def renew(self, broken: Executor) -> None:
        """Take another executor in place of one that lost a worker and takes no more work."""
        if self._ours and broken is self.executor:
            broken.shutdown(wait=False, cancel_futures=True)
            self.executor = self._make()

    def shutdown(self) -> None:
        if self._ours:
            self.executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def workers(repository: Repository, executor: str | Executor | None = None) -> Iterator[Workers]:
    """The workers that `executor` stands for: `threads` (also None) or `processes`, with `:8` for so many,
    `dask://host:port`, `ray://host:port` (`ray://` alone for this machine), or an executor.

    Raises InvalidValue, MissingDependency."""
    found = _workers(repository, executor)
    try:
        yield found
    finally:
        found.shutdown()


def _workers(repository: Repository, executor: str | Executor | None) -> Workers:
    if isinstance(executor, Executor):
        count = getattr(executor, "_max_workers", None) or _SOME
        here = isinstance(executor, ThreadPoolExecutor)
        return Workers(lambda: executor, count, here=here, ours=False)
    kind, _, rest = (executor or "threads").partition(":")
    if kind in ("dask", "ray") and rest.startswith("//"):
        return (_dask if kind == "dask" else _ray)(rest[2:])
    if kind not in ("threads", "processes") or (rest and not rest.isdecimal()):
        raise InvalidValue(f"{executor!r} runs no work: give {KINDS}", value=executor)
    count = int(rest or _own_count(repository, kind))
    if kind == "threads":
        return Workers(lambda: ThreadPoolExecutor(count, "holdfast"), count, here=True)
    return Workers(lambda: _processes(count), count, here=False)


def _own_count(repository: Repository, kind: str) -> int:
    """Far storage waits, so it takes more threads; near storage keeps as many busy as there are cores."""
    far = kind == "threads" and not repository.backend.capabilities.append
    return repository.backend.capabilities.parallel if far else os.cpu_count() or 2


def _processes(count: int) -> Executor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


def _dask(address: str) -> Workers:
    try:
        from distributed import Client
    except ImportError as error:
        raise _missing("dask", "distributed") from error
    client = Client(f"tcp://{address}", set_as_default=False)
    count = sum(client.nthreads().values()) or _SOME

    class Dask(Executor):
        """Dask's own executor, and its client, which ends with it."""

        inner = client.get_executor(pure=False, retries=0)

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = self.inner.submit(fn, *args, **kwargs)
            return future

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            self.inner.shutdown(wait=wait)
            client.close()

    return Workers(Dask, count, here=False)


def _ray(address: str) -> Workers:
    try:
        import ray
    except ImportError as error:
        raise _missing("ray", "ray") from error
    found = ray.init(f"ray://{address}" if address else "local", ignore_reinit_error=True)

    class Ray(Executor):
        """Each piece is a task of Ray."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = ray.remote(_apply).remote(fn, *args, **kwargs).future()
            return future

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            found.disconnect()

    return Workers(Ray, int(ray.cluster_resources().get("CPU", _SOME)), here=False)


def _apply(call: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    return call(*args, **kwargs)  # a task of Ray is a function, not any callable


def _missing(extra: str, module: str) -> MissingDependency:
    return MissingDependency(
        f"{extra}:// needs {module}: pip install 'holdfast[{extra}]'", missing=module
    )


def spread(
    repository: Repository, job: Job[P, R], pieces: Iterable[P], crew: Workers
) -> Iterator[tuple[P, R]]:
    """(piece, what the job made of it), in the order in which they are done.

    No more pieces are taken than the workers have use for. The first error of a job comes out here, and
    what has not begun by then never begins. Raises InvalidValue for a store in this process's memory
    that other processes cannot open."""
    call, todo = _call(repository, job, crew), iter(pieces)
    again: deque[tuple[P, int]] = deque()
    running: dict[Future[R], tuple[P, int, Executor]] = {}
    try:
        while True:
            while len(running) < crew.count * _AHEAD:
                item = again.popleft() if again else next(((piece, 1) for piece in todo), None)
                if item is None:
                    break
                _submit(crew, call, *item, running)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                piece, tries, executor = running.pop(future)
                result = _result(future, tries)
                if result is _AGAIN:
                    crew.renew(executor)
                    again.append((piece, tries + 1))
                else:
                    yield piece, result
    finally:
        for future in running:
            future.cancel()


def each(
    repository: Repository, job: Job[P, R], pieces: Iterable[P], executor: str | Executor | None
) -> Iterator[tuple[P, R]]:
    """`spread` over the workers that `executor` stands for; without one, here and one after the other."""
    if executor is None:
        for piece in pieces:
            yield piece, job(repository, piece)
        return
    with workers(repository, executor) as crew:
        yield from spread(repository, job, pieces, crew)


_AGAIN: Any = object()


def _submit(
    crew: Workers,
    call: Callable[[P], R],
    piece: P,
    tries: int,
    running: dict[Future[R], tuple[P, int, Executor]],
) -> None:
    try:
        future = crew.executor.submit(call, piece)
    except BrokenExecutor:
        crew.renew(crew.executor)
        future = crew.executor.submit(call, piece)
    running[future] = (piece, tries, crew.executor)


def _result(future: Future[R], tries: int) -> R:
    """What the job returned; _AGAIN if its worker was lost. Raises what the job raised."""
    try:
        return future.result()
    except Exception as error:
        lost = isinstance(error, BrokenExecutor) or type(error).__name__ in _LOST
        if not lost or tries >= _MOST_TRIES:
            raise
        return _AGAIN  # type: ignore[no-any-return]


def _call(repository: Repository, job: Job[P, R], crew: Workers) -> Callable[[P], R]:
    if crew.here:
        return _Here(repository, job)
    url = repository.backend.url
    if url.startswith("memory://"):
        raise InvalidValue(f"{url} lies in the memory of this process: use threads", value=url)
    place = Place(url, pickle.dumps(dict(repository.options or {})), repository.read_only)
    return _There(place, job)


@dataclass(frozen=True, slots=True)
class _Here:
    repository: Repository
    job: Callable[[Repository, Any], Any]

    def __call__(self, piece: Any) -> Any:
        return self.job(self.repository, piece)


@dataclass(frozen=True, slots=True)
class _There:
    """What travels to another process with each piece."""

    place: Place
    job: Callable[[Repository, Any], Any]

    def __call__(self, piece: Any) -> Any:
        return self.job(opened(self.place), piece)


@lru_cache(maxsize=8)
def opened(place: Place) -> Repository:
    """The store in this worker, which keeps it for its next piece. What came with the pieces is trusted as
    much as the job itself: whoever hands out work may run anything here."""
    options = pickle.loads(place.options)  # noqa: S301
    return opened_anyway(place.url, options or None, read_only=place.read_only)
