"""More people with a seat: who gives names, who brings runs to another store, who frees space."""

from __future__ import annotations

from holdfast.errors import AliasMoved, HoldfastError, InvalidState

from .model import Act, Violation
from .seats import Seat


class Namer(Seat):
    """Moves aliases, and takes snapshots."""

    def act(self) -> None:
        self.choose(alias=4, unname=1, snapshot=2, look=2)

    def alias(self) -> None:
        run = self.any_run()
        if run is None:
            return
        name = f"names/{self.number}"
        act = Act(run.run_id)
        self.history.names.setdefault(name, []).append(act)
        self.store.alias(name, run.run_id)
        act.done()

    def unname(self) -> None:
        acts = self.history.names.get(f"names/{self.number}", [])
        if acts and acts[-1].ended < 1 << 62:
            act = Act(None)
            acts.append(act)
            self.store.delete_alias(f"names/{self.number}")
            act.done()

    def snapshot(self) -> None:
        refused = (
            (InvalidState,) if self.history.collects else ()
        )  # while a collection is under way
        with self.tolerant(*refused):
            self._snapshot()

    def _snapshot(self) -> None:
        self.store.snapshot(self.chance.choice([None, f"kept/{self.number}"]))

    def look(self) -> None:
        with self.tolerant(AliasMoved):
            self.store.aliases()


class Syncer(Seat):
    """Brings what there is to another store, again and again."""

    def act(self) -> None:
        with self.calm() as calm:
            report = self.store.sync_to(self.history.world.mirror.url)
            gone = self.history.collects and any(
                map(self.history.may_be_gone, self.history.runs.values())
            )
            if calm() and not gone and not report.ok:
                raise Violation(f"sync: {report.findings} {report.diverged}")
        self.history.kernel.wait(
            lambda: False, self.history.kernel.now + self.chance.choice([0.1, 5])
        )


class Collector(Seat):
    """Frees what nobody needs."""

    def begin(self) -> None:
        self.ops_left = min(self.ops_left, self.chance.randint(1, 3))

    def act(self) -> None:
        if self.chance.random() < 0.5:
            self.history.kernel.wait(
                lambda: False, self.history.kernel.now + self.chance.choice([1, 30])
            )
        try:
            self.store.gc()
        except HoldfastError:
            if self.chance.random() < 0.5:
                self.store.gc()  # goes on with what was begun
            raise
