"""The storage that all processes of a history share, and what goes wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from holdfast.backend.base import Appender, Capabilities, Staged, Stat
from holdfast.backend.memory import MemoryBackend
from holdfast.errors import BackendError, HoldfastError, NameExists, StorageFull, Unavailable

from .kernel import Crashed, Kernel, Process

HEADS = "heads/"


@dataclasses.dataclass
class Weather:
    """How likely each fault is at one call; drawn anew for each history."""

    fail: float = 0.0  # the call fails and does nothing
    lost: float = 0.0  # it does its work, and its answer is lost
    late: float = 0.0  # it fails, and its work is done later, or never
    crash: float = 0.0  # the process dies, before or after the call
    full: float = 0.0  # the disk is full for a while
    rot: float = 0.0  # a bit of a file is wrong for a while
    stale: float = 0.0  # a hint is not written, or an older list of hints is read
    entries_only: bool = (
        False  # only answers to creates of chain entries are lost: nobody may notice
    )

    @classmethod
    def drawn(cls, chance: random.Random, remote: bool) -> Weather:
        def rate(likely: float, *rates: float) -> float:
            return chance.choice(rates) if chance.random() < likely else 0.0

        if chance.random() < 0.12:
            return cls(lost=0.2, entries_only=True, crash=rate(0.3, 0.01))
        if chance.random() < 0.15:
            return cls()
        return cls(
            fail=rate(0.5, 0.003, 0.02, 0.1),
            lost=rate(0.5, 0.003, 0.02, 0.1),
            late=rate(0.5, 0.01, 0.05) if remote else 0.0,
            crash=rate(0.6, 0.002, 0.01, 0.03),
            full=rate(0.15, 0.005) if not remote else 0.0,
            rot=rate(0.15, 0.005),
            stale=rate(0.2, 0.1, 0.5),
        )


@dataclasses.dataclass
class Late:
    """A request that is still on its way although its sender was told that it failed."""

    name: str
    act: Callable[[], Any]


class _Remembering(MemoryBackend):
    """Files, and what the entries of chains were that are gone by now."""

    def __init__(self, url: str, entries: dict[str, set[bytes]]) -> None:
        super().__init__(url)
        self._entries = entries

    def create(self, name: str, data: bytes) -> None:
        super().create(name, data)
        if name.rpartition("/")[2].isdigit():
            self._entries.setdefault(name, set()).add(bytes(data))


class World:
    """The files, and everything that happens to them."""

    def __init__(
        self, kernel: Kernel, weather: Weather, chance: random.Random, remote: bool
    ) -> None:
        self.kernel, self.weather, self.chance, self.remote = kernel, weather, chance, remote
        self.entries: dict[str, set[bytes]] = {}  # of chains: all that were ever created
        self.files = _Remembering("sim://lab", self.entries)
        self.mirror = MemoryBackend("sim://mirror")
        self.late: list[Late] = []
        self.full = False
        self.rotten: tuple[str, int, int] | None = None
        self.rots = 0  # how often anything was, healed since or not
        self.faults = 0  # that somebody may have noticed
        self.calm = True
        self.old_heads: list[Stat] = []
        self.capabilities = dataclasses.replace(self.files.capabilities, append=not remote)
        self.log: list[str] | None = None

    # The weather changes between two steps.

    def step(self) -> None:
        if self.calm:
            return
        draw, weather = self.chance.random, self.weather
        if self.late and draw() < 0.1:
            self.land(self.late.pop(self.chance.randrange(len(self.late))))
        if weather.full and draw() < (0.05 if self.full else weather.full):
            self.full = not self.full
            self.faults += 1
        if weather.rot and draw() < (0.05 if self.rotten else weather.rot):
            self.faults += 1
            self.heal() if self.rotten else self.rot()
        if weather.stale and draw() < 0.05:
            self.old_heads = list(self.files.walk(HEADS))

    def land(self, late: Late) -> None:
        """A late request arrives: it is as good as any other."""
        with contextlib.suppress(BackendError, ValueError):
            late.act()
        self.note("late", late.name)

    def rot(self) -> None:
        names = [name for name in sorted(self.files._files) if self._may_rot(name)]
        if names:
            name = self.chance.choice(names)
            data = self.files._files[name][0]
            self.rots += 1
            self.rotten = (name, self.chance.randrange(len(data)), 1 << self.chance.randrange(8))
            self._flip()
            self.note("rot", name)

    def _may_rot(self, name: str) -> bool:
        data = self.files._files[name][0]
        return (
            isinstance(data, bytes) and len(data) > 0 and not name.startswith((HEADS, "store.json"))
        )

    def _flip(self) -> None:
        if self.rotten is not None:
            name, at, bit = self.rotten
            if name in self.files._files:
                data, when = self.files._files[name]
                changed = bytearray(data)
                changed[at] ^= bit
                self.files._files[name] = (bytes(changed), when)

    def heal(self) -> None:
        self._flip()
        self.rotten = None

    def is_unwell(self) -> bool:
        return self.full or self.rotten is not None

    def is_stale(self) -> bool:
        """Is this hint one that does not get through?"""
        stale = self.weather.stale
        return stale > 0 and not self.calm and self.chance.random() < stale

    def clear_up(self, land: bool) -> None:
        """The sky is clear from now on; what is under way arrives, or never does."""
        self.calm, self.full = True, False
        self.heal()
        for late in self.late if land else []:
            self.land(late)
        self.late.clear()

    def note(self, what: str, name: str) -> None:
        if self.log is not None:
            task = self.kernel.current()
            who = f"{task.process.pid}/{task.name}" if task else "-"
            self.log.append(f"{self.kernel.steps:6} {who:22} {what:14} {name}")

    # One call of one process.

    def call(
        self, process: Process, what: str, name: str, act: Callable[[], Any], writes: bool = False
    ) -> Any:
        if self.calm:
            return act()
        self.kernel.pause()
        weather, draw = self.weather, self.chance.random()
        if draw < weather.crash:
            return self._crash(process, what, name, act)
        if writes and self.full:
            self.note("full", name)
            raise StorageFull(f"the disk is full: {name} was not written", name=name)
        fault = self._fault(draw - weather.crash, what, name, writes)
        if fault == "fail":
            raise self._failed(what, name)
        if fault == "late":
            self.late.append(Late(name, act))
            raise self._failed(f"{what}, late", name)
        self.note(what, name)
        result = act()
        if fault == "lost":
            raise self._failed(f"{what}, lost", name)
        return result

    def _fault(self, draw: float, what: str, name: str, writes: bool) -> str:
        weather = self.weather
        if weather.entries_only:
            is_entry = what == "create" and name.rpartition("/")[2].isdigit()
            return "lost" if is_entry and draw < weather.lost else ""
        for fault, rate in (("fail", weather.fail), ("lost", weather.lost), ("late", weather.late)):
            if 0 <= draw < rate and (fault == "fail" or (writes and what != "append.write")):
                self.faults += 1
                return fault
            draw -= rate
        return ""

    def _failed(self, what: str, name: str) -> HoldfastError:
        self.note(f"FAIL {what}", name)
        kind = Unavailable if self.remote else BackendError
        return kind(f"injected: {what} {name}", name=name)

    def _crash(self, process: Process, what: str, name: str, act: Callable[[], Any]) -> NoReturn:
        self.faults += 1
        if self.chance.random() < 0.5:
            with contextlib.suppress(HoldfastError):
                act()
            what = f"{what}, then"
        self.note(f"{what} CRASH", name)
        self.kernel.kill(process)
        raise Crashed


class SimBackend:
    """The world, or the mirror of it, as one process sees it."""

    def __init__(self, world: World, process: Process, files: MemoryBackend) -> None:
        self.world, self.process, self.files = world, process, files
        self.url = files.url

    @property
    def capabilities(self) -> Capabilities:
        return self.world.capabilities

    def _read(self, what: str, name: str, act: Callable[[], Any]) -> Any:
        return self.world.call(self.process, what, name, act)

    def _write(self, what: str, name: str, act: Callable[[], Any]) -> Any:
        return self.world.call(self.process, what, name, act, writes=True)

    def get(self, name: str) -> bytes:
        return self._read("get", name, lambda: self.files.get(name))  # type: ignore[no-any-return]

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        return [self.get(name) for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        act = lambda: self.files.get_range(name, offset, length)  # noqa: E731
        return self._read("get_range", name, act)  # type: ignore[no-any-return]

    def chunks(self, name: str) -> Iterator[bytes]:
        yield from self._read("chunks", name, lambda: list(self.files.chunks(name)))

    def stat(self, name: str) -> Stat:
        return self._read("stat", name, lambda: self.files.stat(name))  # type: ignore[no-any-return]

    def create(self, name: str, data: bytes) -> None:
        data = bytes(data)
        self._write("create", name, lambda: self.files.create(name, data))

    def put(self, name: str, data: bytes) -> None:
        world = self.world
        if name.startswith(HEADS) and world.is_stale():
            world.note("put, not kept", name)
            return
        self._write("put", name, lambda: self.files.put(name, data))

    def stage(self) -> Staged:
        return _Staged(self)

    def walk(self, prefix: str) -> Iterator[Stat]:
        world = self.world
        found = self._read("walk", prefix, lambda: list(self.files.walk(prefix)))
        if prefix.startswith(HEADS) and world.is_stale():
            found = [stat for stat in world.old_heads if stat.name.startswith(prefix)]
        yield from found

    def folders(self, prefix: str) -> list[str]:
        return self._read("folders", prefix, lambda: self.files.folders(prefix))  # type: ignore[no-any-return]

    def names(self, prefix: str) -> list[str]:
        return self._read("names", prefix, lambda: sorted(self.files.names(prefix)))  # type: ignore[no-any-return]

    def token(self, prefix: str) -> str | None:
        return None

    def delete(self, name: str) -> None:
        self._write("delete", name, lambda: self.files.delete(name))

    def append(self, name: str, header: bytes) -> Appender:
        if self.world.remote:
            raise BackendError(f"{name}: nothing can be appended to far away", name=name)
        inner = self._write("append", name, lambda: self.files.append(name, header))
        return _Appender(self, name, inner)


class _Staged:
    """Bytes that nobody sees until they have a name."""

    def __init__(self, backend: SimBackend) -> None:
        self._backend = backend
        self._inner = backend.files.stage()

    def write(self, data: bytes | memoryview) -> None:
        self._inner.write(data)

    def commit(self, name: str) -> bool:
        data = bytes(self._inner._data)  # type: ignore[attr-defined]
        files = self._backend.files

        def act() -> bool:
            try:
                files.create(name, data)
            except NameExists:
                return False
            return True

        return self._backend._write("stage.commit", name, act)  # type: ignore[no-any-return]

    def replace(self, name: str) -> None:
        data = bytes(self._inner._data)  # type: ignore[attr-defined]
        self._backend._write("stage.replace", name, lambda: self._backend.files.put(name, data))

    def abort(self) -> None:
        return None


class _Appender:
    def __init__(self, backend: SimBackend, name: str, inner: Appender) -> None:
        self._backend, self._name, self._inner = backend, name, inner
        self.prepare, self.cut, self.close = inner.prepare, inner.cut, inner.close

    def write(self, data: bytes) -> int:
        return self._backend._write("append.write", self._name, lambda: self._inner.write(data))  # type: ignore[no-any-return]

    def sync(self) -> None:
        self._backend._read("append.sync", self._name, self._inner.sync)
