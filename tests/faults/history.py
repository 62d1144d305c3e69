"""One history: a few people at work on one store, from the first step to the last comparison."""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import holdfast
import holdfast.store as stores
from holdfast import process as processes
from holdfast import proven
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    HoldfastError,
    InvalidState,
    MetricNotFound,
    NotFound,
    Unavailable,
)
from holdfast.format import layout, storefile
from holdfast.liveness import STALE_SECONDS
from holdfast.ops import reach

from . import kernel as kernels
from .kernel import Kernel, Process
from .model import Act, RunModel, Violation, is_sure, possible
from .seats import KEYS, Helper, Rank, Reader, Seat, Trainer
from .visitors import Collector, Namer, Syncer
from .world import SimBackend, Weather, World


def _about(number: int) -> bytes:
    """store.json of one of the stores of a history."""
    return storefile.encode(
        {
            "format": storefile.FORMAT,
            "store_id": f"00000000-0000-4000-8000-{number:012}",
            "features": {"read": [], "write": [], "gc": []},
            "created_at": "2025-01-15T12:00:00.000000000Z",
        }
    )


_LAB, _MIRROR = _about(0), _about(1)
KINDS: list[type[Seat]] = [Trainer, Rank, Helper, Reader, Namer, Syncer]
WEIGHTS = [3, 2, 3, 3, 1, 1]
if find_spec("holdfast.ops.gc") is not None:
    KINDS, WEIGHTS = [*KINDS, Collector], [*WEIGHTS, 2]
_BLOCK = random.Random("large artifacts").randbytes(1 << 20)
SHM = "/dev/shm"


class History:
    """Everything that follows from one seed. `without` leaves seats out, `calm` all faults: to make a
    failure smaller."""

    def __init__(
        self, seed: int, *, remote: bool | None = None, without: tuple[int, ...] = (), calm: bool = False,
        acts: int | None = None, log: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.seed, self.without, self.most_acts = seed, without, acts
        chance = random.Random(f"history {seed}")
        is_remote = chance.random() < 0.25
        self.is_remote = is_remote if remote is None else remote
        self.kernel = Kernel(seed)
        kernels.begin(self.kernel)
        weather = Weather.drawn(chance, self.is_remote)
        self.world = World(
            self.kernel,
            Weather() if calm else weather,
            random.Random(f"faults {seed}"),
            self.is_remote,
        )
        self.world.log = log
        self.world.files.create("store.json", _LAB)
        self.world.mirror.create("store.json", _MIRROR)
        self.runs: dict[str, RunModel] = {}
        self.alive: dict[int, Process] = {}
        self.pids, self.serials = itertools.count(1), itertools.count(1)
        self.large = chance.random() < 0.08
        self.places: dict[str, str] = {}
        self.names: dict[str, list[Act]] = {}
        self.left_behind: set[str] = set()
        self.collects = False
        self.seats = self._seats(chance)
        self.collects = any(isinstance(seat, Collector) for seat in self.seats)

    def _seats(self, chance: random.Random) -> list[Seat]:
        kinds: list[type[Seat]] = [Trainer]
        kinds += chance.choices(KINDS, WEIGHTS, k=chance.randint(1, 4))
        seats = [
            kind(self, number, random.Random(f"seat {self.seed} {number}"))
            for number, kind in enumerate(kinds)
        ]
        for seat in seats:
            seat.ops_left = min(seat.ops_left, self.most_acts or seat.ops_left)
        return [seat for seat in seats if seat.number not in self.without]

    # What seats ask for.

    def new_process(self, host: str) -> Process:
        process = Process(next(self.pids), host, self._place(host) if self.is_remote else None)
        self.alive[process.pid] = process
        return process

    def _place(self, host: str) -> str:
        """The state directory of a machine: real files, in memory where the system has that."""
        if host not in self.places:
            self.places[host] = tempfile.mkdtemp(prefix="holdfast-faults-", dir=_memory())
        return self.places[host]

    def open(self, url: str = "sim://lab") -> holdfast.ExperimentStore:
        """The store, for the process that asks."""
        store = holdfast.ExperimentStore(url, cache=False)
        stores._stores.discard(store)  # nobody closes it when Python ends
        return store

    def new_run(self) -> RunModel:
        run = RunModel(f"run{len(self.runs):02d}", remote=self.is_remote)
        self.runs[run.run_id] = run
        return run

    def serial(self) -> float:
        return float(next(self.serials))

    def some_bytes(self, chance: random.Random) -> bytes:
        """Bytes of an artifact: often those of another one; sometimes large and much like another."""
        number = chance.randrange(6)
        if self.large and chance.random() < 0.4:
            return _BLOCK + bytes([number]) * 5000 + _BLOCK[: 1000 * number]
        return bytes([number]) * (number * 211 + 1)

    def excuses(self, error: HoldfastError, legitimate: tuple[type[HoldfastError], ...]) -> bool:
        """Is this what others, or the distance, may do to anybody?"""
        gone = isinstance(error, (InvalidState, NotFound, Corrupt)) and any(
            map(self.may_be_gone, self.runs.values())
        )
        far = self.is_remote and isinstance(error, (InvalidState, Unavailable))
        return gone or far or isinstance(error, legitimate)

    # What Holdfast asks of the process table.

    def _me(self) -> Process:
        task = self.kernel.current()
        if task is None:
            raise kernels.Stuck("no process is running")
        return task.process

    def identity(self) -> dict[str, Any]:
        return self._me().identity()

    def is_alive(self, who: dict[str, Any]) -> bool | None:
        if who.get("host") != self._me().host:
            return None
        process = self.alive.get(who["pid"])
        return process is not None and not process.dead

    def backend(self, url: str) -> SimBackend:
        mirrored = url == self.world.mirror.url
        files = self.world.mirror if mirrored else self.world.files
        return SimBackend(self.world, self._me(), files)

    def state_folder(self) -> str:
        me = self._me()
        return me.disk or self._place(me.host)

    # From the first step to the last.

    def play(self) -> int:
        """Raises Violation, or whatever else should not have come. Returns how it went, as a number."""
        global CURRENT
        CURRENT = self
        cache = os.path.join(_memory(), f"holdfast-faults-{os.getpid()}-{self.seed}")
        os.environ["HOLDFAST_CACHE_DIR"] = cache
        proven._tried.clear()  # a machine of this history has tried no server yet
        try:
            self._play()
        finally:
            for process in self.alive.values():
                if not process.dead:
                    self.kernel.kill(process)
            for place in [*self.places.values(), cache]:
                shutil.rmtree(place, ignore_errors=True)
            kernels.begin(None)
        return self.kernel.trace

    def _play(self) -> None:
        self.world.calm = False
        self.kernel.before_step = self._before_step
        for seat in self.seats:
            seat.sit_down()
        self.kernel.run()
        self._end_all()
        self.kernel.spawn(self.new_process("host0"), "judge", self._judge)
        self.kernel.run()

    def _judge(self) -> None:
        self._settle()
        self._check()

    def _before_step(self) -> None:
        self.world.step()
        for seat in self.seats:
            if seat.process is not None and seat.process.dead and seat.ops_left > 0:
                seat.ops_left -= 1
                seat.sit_down()

    def _end_all(self) -> None:
        """Every process goes away, with or without a word; what is under way arrives or does not."""
        self.kernel.before_step = lambda: None
        for process in list(self.alive.values()):
            if not process.dead:
                self.kernel.kill(process)
        self.world.clear_up(land=self.kernel.chance.random() < 0.5)
        self.kernel.tasks.clear()
        self.kernel.now += 2 * STALE_SECONDS

    def _settle(self) -> None:
        """What was left on each machine is recovered there."""
        me = self._me()
        for host in sorted(self.places) or ["host0"]:
            me.host, me.disk = host, self.places.get(host) if self.is_remote else None
            self.store = self.open()
            for found in self.store.recover():
                gone = self.is_remote and self.may_be_gone(self.runs[found.run_id])
                if gone and "removed and collected" in (found.problem or ""):
                    continue  # what was not sent by then stays on its machine, and that is said
                if found.problem is not None:
                    raise Violation(f"run {found.run_id} cannot be recovered: {found.problem}")

    def _check(self) -> None:
        self._check_store()
        if self.collects:
            self._check_collected()
        if any(isinstance(seat, Syncer) for seat in self.seats):
            self._check_mirror()
        if self.kernel.chance.random() < 0.3:
            self._check_rot()

    def _check_store(self) -> None:
        """Every promise, in the store that is open."""
        findings = [one for one in self.store.verify() if not one.harmless]
        if findings:
            raise Violation(f"verify: {findings}")
        listed = {run.run_id: run for run in self.store.runs(deleted=True)}
        for run in self.runs.values():
            if run.run_id not in self.left_behind:
                self._check_run(run, listed)
        for name, acts in self.names.items():
            self._check_name(name, acts)

    def _check_name(self, name: str, acts: list[Act]) -> None:
        """An alias names what somebody had it name last."""
        found = {one.name: one.address for one in self.store.aliases()}
        if is_sure(acts) and found.get(name) not in possible(acts):
            raise Violation(f"alias {name} is {found.get(name)}: {acts}")

    def _check_collected(self) -> None:
        """Two more collections leave no garbage, and take nothing away."""
        self.store.gc()
        self.store.gc()
        left = self.store.gc_plan().names
        if left:
            raise Violation(f"garbage is left: {left}")
        self._check_store()

    def _check_mirror(self) -> None:
        """One more sync, and the other store has all that this one has."""
        mirror = self.open(self.world.mirror.url)
        report = self.store.sync_to(mirror)
        if not report.ok:
            raise Violation(f"sync: {report.findings} {report.diverged}")
        here, self.store, self.left_behind = self.store, mirror, set(report.collected)
        for run_id in self.left_behind:
            self._check_left_behind(run_id)
        self._check_store()
        self.store, self.left_behind = here, set()

    def _check_left_behind(self, run_id: str) -> None:
        """A run that was collected before its last entries were synced stays in the mirror as it was: deleted
        by somebody, and of its chain byte for byte what was once in the store, without a gap."""
        if not self.may_be_gone(self.runs[run_id]):
            raise Violation(f"run {run_id} is collected, and nobody deleted it")
        prefix = layout.manifest(run_id)
        there = sorted(self.world.mirror.names(prefix))
        for number, name in enumerate(there):
            place = layout.entry(prefix, number)
            data = self.world.mirror.get(place) if place == prefix + name else None
            if data is None or data not in self.world.entries.get(place, ()):
                raise Violation(f"{prefix}{name} in the mirror was never in the store")

    def may_be_gone(self, run: RunModel) -> bool:
        """Has anybody tried to delete it, where there is a collector?"""
        return self.collects and any(act.value for act in run.deleted)

    def _check_rot(self) -> None:
        """One bit of one file is wrong: verify says so, and whatever is read is right or an error."""
        self.world.rot()
        if self.world.rotten is None:
            return
        place, at, bit = self.world.rotten
        if not self._is_garbage(place) and not self.store.verify():
            raise Violation(
                f"bit {bit} of byte {at} of {place} is wrong, and verify does not see it"
            )
        for run in self.runs.values():
            if self.may_be_gone(run):
                continue
            with suppress(HoldfastError):  # which every one of them may be
                self._check_tags(run, self.store.run(run.run_id))
            for key, acts in run.artifacts.items():
                with suppress(HoldfastError):
                    self._check_artifact(run, key, acts)
            for key in KEYS:
                with suppress(HoldfastError):
                    self._check_series(run, key)
        self.world.heal()

    def _is_garbage(self, place: str) -> bool:
        """A segment that was put together with others: nobody reads it any more."""
        if not place.endswith(".seg"):
            return False
        return place not in reach.of_run(self.store.repository, place.split("/")[1]).segments

    def _check_run(self, run: RunModel, listed: dict[str, Any]) -> None:
        try:
            summary = self.store.run(run.run_id)
        except HoldfastError as error:
            gone = self.may_be_gone(run) and True in possible(run.deleted)
            if run.begun and not gone:
                raise Violation(f"run {run.run_id} is lost: {error}") from error
            return
        if summary.deleted and self._is_history(run, summary):
            return
        if run.run_id not in listed and not self.world.weather.stale:
            raise Violation(f"run {run.run_id} is not listed")
        if not self.world.weather.stale and listed[run.run_id].generation != summary.generation:
            raise Violation(f"run {run.run_id} is listed as of {listed[run.run_id].generation}")
        for key in KEYS:
            counted = summary.metrics[key].count if key in summary.metrics else 0
            read = self._check_series(run, key)
            if counted != read:
                raise Violation(
                    f"run {run.run_id}, {key}: {counted} points are counted, {read} read"
                )
        for key, acts in run.artifacts.items():
            self._check_artifact(run, key, acts)
        self._check_tags(run, summary)
        self._check_status(run, summary)

    def _is_history(self, run: RunModel, summary: Any) -> bool:
        """Of a deleted run a sync brings its history alone, and a collector leaves no more."""
        is_empty = not summary.artifacts and not summary.metrics
        return self.store.url == self.world.mirror.url or (self.may_be_gone(run) and is_empty)

    def _check_series(self, run: RunModel, key: str) -> int:
        """Returns how many points it has."""
        try:
            found = self.store.metrics(run.run_id, key)
            rows = list(zip(found.steps.tolist(), found.values.tolist(), strict=True))
        except MetricNotFound:
            rows = []
        run.check_series(key, rows, run.sure_points(), [one for one in run.attempts if one.sure])
        return len(rows)

    def _check_tags(self, run: RunModel, summary: Any) -> None:
        for name, acts in run.tags.items():
            if is_sure(acts) and summary.tags.get(name) not in possible(acts):
                raise Violation(f"run {run.run_id}: tag {name} is {summary.tags.get(name)}: {acts}")

    def _check_artifact(self, run: RunModel, key: str, acts: list[Act]) -> None:
        try:
            data = self.store.read_artifact(run.run_id, key)
        except ArtifactNotFound as error:
            if is_sure(acts):
                raise Violation(f"run {run.run_id}: artifact {key} is lost") from error
            return
        if data not in possible(acts):
            raise Violation(f"run {run.run_id}: artifact {key} is not what was stored last")

    def _check_status(self, run: RunModel, summary: Any) -> None:
        allowed = set(possible(run.statuses))
        if "Running" in allowed:
            allowed.add("Failed")  # as recover says of those who went away without a word
        if run.begun and summary.status.value not in allowed:
            raise Violation(f"run {run.run_id} is {summary.status.value}: {run.statuses}")
        if is_sure(run.deleted) and summary.deleted not in possible(run.deleted):
            raise Violation(f"run {run.run_id}: deleted is {summary.deleted}: {run.deleted}")


def _memory() -> str:
    """Where files lie in memory, if the system has such a place."""
    return SHM if os.path.isdir(SHM) else tempfile.gettempdir()


CURRENT: History | None = None


def current() -> History:
    if CURRENT is None:
        raise kernels.Stuck("no history is being played")
    return CURRENT


def play(seed: int, **how: Any) -> int:
    """Play history `seed`; nothing of it is left."""
    gc.disable()
    try:
        return History(seed, **how).play()
    finally:
        gc.enable()


__all__ = ["History", "current", "play", "processes"]
