"""The machine under the simulation: one thread, greenlets, a clock of our own, and one source of chance."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import greenlet

NEVER = float("inf")


class Crashed(BaseException):
    """The process is gone: nothing it still does reaches the store."""


class Stuck(Exception):
    """Everybody waits for somebody else, or the history does not end: a bug of the code or of the plan."""


class Process:
    """A simulated process: it has an identity, and dies as a whole."""

    def __init__(self, pid: int, host: str, disk: str | None = None) -> None:
        self.pid, self.host, self.disk = pid, host, disk
        self.dead = False

    def identity(self) -> dict[str, Any]:
        return {"host": self.host, "pid": self.pid, "started": "1", "space": "1"}


class Task(greenlet.greenlet):
    """A thread of a process. It runs when `ready()` says so, or when the clock has reached `until`."""

    def __init__(self, kernel: Kernel, process: Process, name: str, run: Callable[[], Any]) -> None:
        super().__init__(self._main, kernel.hub)
        self.kernel, self.process, self.name, self.do = kernel, process, name, run
        self.background = False  # nobody waits for it at the end of a history
        self.ready: Callable[[], bool] | None = None
        self.until = NEVER
        self.priority = kernel.chance.random()
        self.failure: BaseException | None = None

    def _main(self) -> None:
        try:
            self.do()
        except Crashed:
            pass
        except BaseException as error:  # noqa: BLE001 - the history reports it
            self.failure = error

    def where(self) -> str:
        """Its name, and what it is in the middle of."""
        stack = traceback.extract_stack(self.gr_frame) if self.gr_frame else []
        calls = [f"{step.name}:{step.lineno}" for step in stack if "/holdfast/" in step.filename]
        return f"{self.process.pid}/{self.name} in {' > '.join(calls)}"


class Kernel:
    """Who runs next, what time it is, and what goes wrong."""

    def __init__(self, seed: int, most_steps: int = 200_000) -> None:
        self.chance = random.Random(f"schedule {seed}")
        self.secret = random.Random(f"secrets {seed}")
        self.hub = greenlet.getcurrent()
        self.tasks: list[Task] = []
        self.now = 1_700_000_000.0
        self.steps, self.most_steps = 0, most_steps
        self.before_step: Callable[[], None] = lambda: None
        self.stickiness = self.chance.choice([0.0, 0.5, 0.9, -1.0])  # -1: by priorities that change
        self.tick = self.chance.choice([0.01, 0.1])  # how often a sleeper's time comes early
        self.trace = 0

    def spawn(self, process: Process, name: str, run: Callable[[], Any]) -> Task:
        task = Task(self, process, name, run)
        self.tasks.append(task)
        return task

    def current(self) -> Task | None:
        found = greenlet.getcurrent()
        return found if isinstance(found, Task) else None

    def pause(self) -> None:
        """Let the scheduler decide who goes on. Raises Crashed when this process died meanwhile."""
        task = self.current()
        if task is not None:
            if not task.process.dead:
                self.hub.switch()
            if task.process.dead:
                raise Crashed

    def wait(self, ready: Callable[[], bool], until: float = NEVER) -> bool:
        """Wait until `ready()` or that time; True if it is ready."""
        task = self.current()
        if task is None:
            if not ready() and until == NEVER:
                raise Stuck("outside of all processes nobody would end this wait")
            return ready()
        if not ready():
            task.ready, task.until = ready, until
            try:
                self.pause()
            finally:
                task.ready, task.until = None, NEVER
        return ready()

    def kill(self, process: Process) -> None:
        """kill -9: its threads unwind without reaching anything."""
        process.dead = True
        for task in [task for task in self.tasks if task.process is process]:
            if task is not greenlet.getcurrent() and not task.dead:
                self.tasks.remove(task)
                if task:  # it has begun
                    task.parent = greenlet.getcurrent()
                    task.throw(Crashed)

    def run(self) -> None:
        """Until every task but those in the background has ended. Raises what a task raised, and Stuck."""
        last: Task | None = None
        while any(not task.background for task in self.tasks):
            self.steps += 1
            if self.steps > self.most_steps:
                raise Stuck(f"no end after {self.steps} steps: {[t.name for t in self.tasks]}")
            self.before_step()
            last = self._next(last)
            if last is None:
                continue
            self.trace = hash((self.trace, last.name, last.process.pid))
            last.switch()
            if last.dead:
                self._ended(last)

    def _ended(self, task: Task) -> None:
        if task in self.tasks:
            self.tasks.remove(task)
        if task.failure is not None:
            raise task.failure

    def _next(self, last: Task | None) -> Task | None:
        able = [t for t in self.tasks if t.ready is None or t.ready() or t.until <= self.now]
        asleep = [t for t in self.tasks if t.ready is not None and self.now < t.until < NEVER]
        if asleep and (not able or self.chance.random() < self.tick):
            first = min(asleep, key=lambda task: task.until)
            self.now = first.until
            return first
        if not able:
            if not self.tasks:
                return None
            raise Stuck(f"deadlock: {[task.where() for task in self.tasks]}")
        return self._choose(able, last)

    def _choose(self, able: list[Task], last: Task | None) -> Task:
        if self.stickiness < 0:
            if self.chance.random() < 0.02:
                self.chance.choice(able).priority = self.chance.random()
            return max(able, key=lambda task: task.priority)
        if last in able and self.chance.random() < self.stickiness:
            return last
        return self.chance.choice(able)


KERNEL: Kernel | None = None  # of the history that is played now


def kernel() -> Kernel:
    if KERNEL is None:
        raise Stuck("no history is being played")
    return KERNEL


def begin(made: Kernel | None) -> None:
    global KERNEL
    KERNEL = made


# What modules of Holdfast see as `threading`, `time` and `secrets`, and their pool of threads.


class Lock:
    """A lock between greenlets; reentrant if `again`."""

    def __init__(self, again: bool = False) -> None:
        self.again = again
        self.owner: Any = None
        self.count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = greenlet.getcurrent()
        if self.owner is not None and not (self.again and self.owner is me):
            if not blocking:
                return False
            until = kernel().now + timeout if timeout >= 0 else NEVER
            if not kernel().wait(lambda: self.owner is None, until):
                return False
        self.owner = me
        self.count += 1
        return True

    def release(self) -> None:
        self.count -= 1
        if not self.count:
            self.owner = None

    def locked(self) -> bool:
        return self.owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *about: object) -> None:
        self.release()


class Event:
    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        until = NEVER if timeout is None else kernel().now + timeout
        return kernel().wait(self.is_set, until)


class Condition(Lock):
    def __init__(self) -> None:
        super().__init__(again=True)
        self._told = 0

    def notify_all(self) -> None:
        self._told += 1

    notify = notify_all

    def wait(self, timeout: float | None = None) -> bool:
        seen = self._told
        return self.wait_for(lambda: self._told > seen, timeout)

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        until = NEVER if timeout is None else kernel().now + timeout
        count, self.count, self.owner = self.count, 0, None
        try:
            return kernel().wait(ready, until)
        finally:
            if kernel().current() is None or not kernel().current().process.dead:  # type: ignore[union-attr]
                kernel().wait(lambda: self.owner is None)
            self.owner, self.count = greenlet.getcurrent(), count


class Thread:
    """A greenlet of the process that starts it; outside of all processes, a plain call."""

    def __init__(
        self,
        target: Callable[..., Any],
        name: str = "thread",
        args: tuple[Any, ...] = (),
        daemon: bool = False,
    ) -> None:
        self._run = lambda: target(*args)
        self.name, self.daemon = name, daemon
        self._task: Task | None = None

    def start(self) -> None:
        me = kernel().current()
        if me is None:
            self._run()
            return
        self._task = kernel().spawn(me.process, self.name, self._run)
        self._task.background = self.daemon

    def join(self, timeout: float | None = None) -> None:
        until = NEVER if timeout is None else kernel().now + timeout
        kernel().wait(lambda: not self.is_alive(), until)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.dead


class Threading:
    """In place of `threading`."""

    Lock, Event, Condition, Thread = Lock, Event, Condition, Thread

    @staticmethod
    def RLock() -> Lock:  # noqa: N802 - its name in the standard library
        return Lock(again=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Time:
    """In place of `time`: no two readings are the same, and only sleeping takes long."""

    @staticmethod
    def time_ns() -> int:
        kernel().now += 1e-6
        return int(kernel().now * 1_000_000) * 1000

    def time(self) -> float:
        return self.time_ns() / 1e9

    monotonic = perf_counter = time

    @staticmethod
    def sleep(seconds: float) -> None:
        kernel().wait(lambda: False, kernel().now + seconds)

    def __getattr__(self, name: str) -> Any:
        import time

        return getattr(time, name)


class Secrets:
    """In place of `secrets`."""

    @staticmethod
    def token_bytes(count: int = 32) -> bytes:
        return kernel().secret.randbytes(count)

    def token_hex(self, count: int = 32) -> str:
        return self.token_bytes(count).hex()

    @staticmethod
    def choice(items: Any) -> Any:
        return kernel().secret.choice(items)


class Pool(Executor):
    """In place of ThreadPoolExecutor: each job is done when it is handed in."""

    def __init__(self, workers: int | None = None, *about: object, **more: object) -> None:
        self._max_workers = workers

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except Exception as error:  # noqa: BLE001 - who asks for the result gets it
            done.set_exception(error)
        return done
