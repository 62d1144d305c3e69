"""What processes do: each seat is a person with a script, who starts another process when one has died."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import holdfast
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    HoldfastError,
    InvalidState,
    MetricNotFound,
    RunBusy,
    RunNotFound,
)
from holdfast.records import RunStatus

from .kernel import Process
from .model import MOMENTS, Act, Attempt, Point, RunModel, Violation, is_sure, possible

if TYPE_CHECKING:
    from .history import History

KEYS = ("loss", "train/acc")
LEGITIMATE = (RunBusy, RunNotFound)


class Seat:
    """One place at which work is done, by one process after the other."""

    def __init__(self, history: History, number: int, chance: random.Random) -> None:
        self.history, self.number, self.chance = history, number, chance
        self.ops_left = chance.randint(3, 14)
        self.process: Process | None = None
        self._store: holdfast.ExperimentStore | None = None
        self.host = f"host{chance.randrange(2)}" if history.world.remote else "host0"

    def sit_down(self) -> None:
        """A new process begins."""
        self.process = self.history.new_process(self.host)
        self.history.kernel.spawn(self.process, type(self).__name__.lower(), self._work)

    @property
    def store(self) -> holdfast.ExperimentStore:
        """The store as this process has it open."""
        if self._store is None:
            self._store = self.history.open()
        return self._store

    def _work(self) -> None:
        self._store = None
        with self.tolerant():
            self.begin()
        while self.ops_left > 0:
            self.ops_left -= 1
            with self.tolerant():
                self.act()
        with self.tolerant():
            self.end()
        self.ops_left = 0

    def begin(self) -> None:
        """What a process does first."""

    def act(self) -> None:
        """One thing of the script."""
        raise NotImplementedError

    def end(self) -> None:
        """What a process does last."""
        if self._store is not None:
            self._store.close()

    @contextmanager
    def tolerant(self, *more: type[HoldfastError]) -> Iterator[None]:
        """An act may fail if something went wrong around it, or for reasons that others may give."""
        with self.calm() as calm:
            try:
                yield
            except HoldfastError as error:
                if calm() and not self.history.excuses(error, LEGITIMATE + more):
                    what = f"nothing was wrong, but: {type(error).__name__}: {error}"
                    raise Violation(what) from error

    @contextmanager
    def calm(self) -> Iterator[Callable[[], bool]]:
        """Tells whether nothing has gone wrong meanwhile."""
        world = self.history.world
        before, unwell = world.faults, world.is_unwell()
        yield lambda: not unwell and world.faults == before and not world.is_unwell()

    def demand_recovered(self) -> None:
        """Recover; a run that cannot be is damage."""
        with self.calm() as calm:
            for found in self.store.recover():
                if found.problem is not None and calm():
                    raise Violation(f"run {found.run_id} cannot be recovered: {found.problem}")

    def any_run(self) -> RunModel | None:
        runs = [run for run in self.history.runs.values() if run.begun]
        return self.chance.choice(runs) if runs else None

    def choose(self, **weights: int) -> None:
        """Do one of these, named after methods."""
        name = self.chance.choices(list(weights), list(weights.values()))[0]
        self.history.world.note("*", name)
        getattr(self, name)()


class Trainer(Seat):
    """Trains: begins runs, logs to them, stores artifacts, ends them; goes on after a crash."""

    run: Any = None
    model: RunModel
    ending = False  # it has been told to finish, and could not

    def begin(self) -> None:
        left, self.run, self.ending = self.run, None, False
        if left is not None:
            self.choose_again(left.id)

    def choose_again(self, run_id: str) -> None:
        """The process before died in the middle of a run."""
        way = self.chance.random()
        if way < 0.5:
            self.resume(run_id)
        elif way < 0.8:
            self.demand_recovered()

    def act(self) -> None:
        if self.run is None:
            self.start()
        elif self.ending:
            self.finish()
        else:
            self.choose(
                log=12, flush=1, artifact=4, tag=2, finish=2, again=1, seal=1, pause=1, note=1
            )

    def start(self) -> None:
        self.model = model = self.history.new_run()
        self.run = self.store.start_run(
            f"experiment{self.chance.randrange(2)}", run_id=model.run_id, capture=False, system=False,
            config={"lr": 0.1},
        )  # fmt: skip
        model.begun = True
        self.attempt = 1
        self.first: Attempt | None = None
        model.statuses.append(Act("Running", True))

    def resume(self, run_id: str | None = None) -> None:
        run = self.history.runs.get(run_id) if run_id else self.any_run()
        if run is None or not run.begun:
            return
        step = self.chance.choice([None, None, self.chance.randrange(12)])
        attempt = Attempt(None, step)
        run.attempts.append(attempt)
        status = Act("Running")
        run.statuses.append(status)
        try:
            self.run = self.store.resume(run.run_id, step=step, system=False)
        except RunBusy:
            run.attempts.remove(attempt)
            return
        self.model, self.first = run, attempt if step is None else None
        attempt.number = self.attempt = self.run._writer.attempt
        attempt.sure = step is not None
        status.done()

    def again(self) -> None:
        """End this one; then go on with any."""
        self.finish()
        self.resume()

    def log(self) -> None:
        step = self.run._writer._next
        if self.chance.random() < 0.2:
            step = self.chance.randrange(20)
        if self.first is not None and self.first.step is None:
            self.first.step = step
        record, points = {}, []
        for key in self.chance.sample(KEYS, self.chance.randint(1, 2)):
            value = self.history.serial()
            record[key] = value
            points.append(Point(key, step, value, self.attempt, self.run._writer.writer_id))
        self.model.points.update((point.value, point) for point in points)
        self.run.log(record, step)
        for point in points:
            point.sure = True
        if self.first is not None:
            self.first.sure, self.first = True, None

    def flush(self) -> None:
        self.run.flush()

    def seal(self) -> None:
        """What the keeper does when a spool is full."""
        self.run._writer.seal(go_on=True)

    def pause(self) -> None:
        self.history.kernel.wait(
            lambda: False, self.history.kernel.now + self.chance.choice([2, 20])
        )

    def artifact(self) -> None:
        key = f"models/{self.number}/{self.chance.randrange(3)}"
        data = self.history.some_bytes(self.chance)
        acts = self.model.artifacts.setdefault(key, [])
        act = Act(data)
        acts.append(act)
        self.run.log_artifact(data, key)
        act.done()

    def tag(self) -> None:
        act = Act(self.history.serial())
        self.model.tags.setdefault(f"tag{self.number}", []).append(act)
        self.run.set_tags({f"tag{self.number}": act.value})
        act.done()

    def note(self) -> None:
        self.run.set_note("so far")

    def finish(self) -> None:
        status = self.chance.choice([RunStatus.SUCCESS, RunStatus.FAILED])
        act = Act(status.value)
        self.model.statuses.append(act)
        self.ending = True
        unsent = self.run.finish(status, timeout=30)
        self.run, self.ending = None, False
        if unsent is None:
            act.done()

    def end(self) -> None:
        if self.run is not None and self.chance.random() < 0.7:
            with self.tolerant():
                self.finish()
        super().end()


class Rank(Trainer):
    """One more writer of somebody else's run."""

    def start(self) -> None:
        run = self.any_run()
        if run is None:
            return
        try:
            self.run = self.store.join_run(run.run_id, rank=self.number + 1, system=False)
        except InvalidState:  # it has ended
            return
        self.model, self.first = run, None
        self.attempt = self.run._writer.attempt

    def choose_again(self, run_id: str) -> None:
        return None

    def again(self) -> None:
        self.finish()

    def finish(self) -> None:
        self.ending = True
        self.run.finish(timeout=30)
        self.run, self.ending = None, False


class Helper(Seat):
    """Keeps the house: compacts, packs, adds, deletes, recovers, verifies."""

    def act(self) -> None:
        self.choose(
            add=3, delete=1, undelete=1, compact=2, pack=1, materialize=1, recover=1, verify=1
        )

    def _act(self, acts: list[Act], value: Any, call: Callable[[], Any]) -> None:
        act = Act(value)
        acts.append(act)
        call()
        act.done()

    def add(self) -> None:
        run = self.any_run()
        if run is not None:
            key, data = f"added/{self.number}", self.history.some_bytes(self.chance)
            acts = run.artifacts.setdefault(key, [])
            self._act(acts, data, lambda: self.store.add_artifact_file(run.run_id, data, key))

    def delete(self) -> None:
        run = self.any_run()
        if run is not None:
            self._act(run.deleted, True, lambda: self.store.delete_run(run.run_id))

    def undelete(self) -> None:
        run = self.any_run()
        if run is not None:
            self._act(run.deleted, False, lambda: self.store.undelete_run(run.run_id))

    def compact(self) -> None:
        self.store.compact(self.chance.choice([None, getattr(self.any_run(), "run_id", None)]))

    def pack(self) -> None:
        run = self.any_run()
        if run is not None and run.artifacts:
            with self.tolerant(ArtifactNotFound):
                self.store.pack(run.run_id)

    def materialize(self) -> None:
        run = self.any_run()
        if run is not None and run.artifacts:
            self.store.materialize(run.run_id)

    def recover(self) -> None:
        self.demand_recovered()

    def verify(self) -> None:
        with self.calm() as calm:
            findings = [one for one in self.store.verify() if not one.harmless]
            gone = any(map(self.history.may_be_gone, self.history.runs.values()))
            if findings and calm() and not gone:
                raise Violation(f"verify, in the middle of it: {findings}")


class Reader(Seat):
    """Reads what others write; what was acknowledged before must be there, and nothing in part."""

    def act(self) -> None:
        self.choose(series=5, artifact=4, summary=2, runs=2)

    def series(self) -> None:
        run = self.any_run()
        if run is not None:
            key = self.chance.choice(KEYS)
            known = set() if run.remote else run.sure_points()
            cuts = [] if run.remote else [one for one in run.attempts if one.sure]
            try:
                found = self.store.metrics(run.run_id, key)
                rows = list(zip(found.steps.tolist(), found.values.tolist(), strict=True))
            except MetricNotFound:
                rows = []
            gone = self.history.may_be_gone(run)
            run.check_series(key, rows, set() if gone else known, cuts)

    def artifact(self) -> None:
        run = self.any_run()
        if run is None or not run.artifacts:
            return
        key = self.chance.choice(sorted(run.artifacts))
        acts = run.artifacts[key]
        now = next(MOMENTS)
        known = not run.remote and is_sure(acts, now)
        with self.calm() as calm:
            try:
                data = self.store.read_artifact(run.run_id, key)
            except ArtifactNotFound as error:
                if known and not self.history.may_be_gone(run):
                    raise Violation(f"run {run.run_id}: artifact {key} is lost") from error
                return
            except Corrupt as error:
                if calm() and not self.history.may_be_gone(run):
                    raise Violation(
                        f"run {run.run_id}: artifact {key} is half there: {error}"
                    ) from error
                return
        if data not in possible(acts, now if known else 0):
            raise Violation(f"run {run.run_id}: artifact {key} is not what was stored")

    def summary(self) -> None:
        run = self.any_run()
        if run is not None:
            now = next(MOMENTS)
            tags = {name: is_sure(acts, now) for name, acts in run.tags.items()}
            found = self.store.run(run.run_id).tags
            for name, known in tags.items():
                allowed = possible(run.tags[name], now)
                blind = run.remote or self.history.may_be_gone(run)
                if known and not blind and found.get(name) not in allowed:
                    raise Violation(f"run {run.run_id}: tag {name} is {found.get(name)}")

    def runs(self) -> None:
        world = self.history.world
        known = {r.run_id for r in self.history.runs.values() if r.begun and not r.deleted}
        rots = world.rots - bool(world.rotten)
        found = {run.run_id for run in self.store.runs()}
        missing = {run_id for run_id in known - found if not self.history.runs[run_id].deleted}
        if missing and not world.remote and not world.weather.stale and world.rots == rots:
            raise Violation(f"runs that are not listed: {sorted(missing)}")
