"""Runs from one store to another: only what is missing, verified on the way, and never half of one.

    plan_sync   lists both sides and says what is to be done
    Sync        carries it out, in batches: files, then what is absent, then the entries of the chains

Who is stopped anywhere begins again: what is there is not sent again. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from holdfast import absent
from holdfast.backend.cached import without_cache
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import BackendError, Corrupt, HoldfastError, NameNotFound, NameRetired
from holdfast.format import layout, recipe
from holdfast.ops import sync_chains, sync_fork
from holdfast.ops.reach import homes_of
from holdfast.ops.sync_chains import ChainPlan, Diverged, Divergence
from holdfast.ops.sync_hold import Hold
from holdfast.ops.sync_listing import Chains, Tip
from holdfast.ops.sync_memory import Memory
from holdfast.ops.sync_needs import RunPlan, Sides, What, is_gone
from holdfast.ops.sync_pieces import rewritten
from holdfast.ops.sync_plan import Damage, Plan, finding, plan
from holdfast.ops.sync_rewrite import Rewriter
from holdfast.ops.sync_send import Meter, Progress, send
from holdfast.ops.verify import Finding
from holdfast.repository import Repository

T = TypeVar("T")
_BATCH = 256  # runs that are published together
_MOST_TRIES = 16  # each needs a collection that condemns what was found a moment ago


@dataclass(slots=True)
class SyncReport:
    """What a sync came to. `runs` got something; `equal` had nothing new. `sent_bytes` counts what was read
    in the source. `findings` is damage in the source, by which runs were left out; `diverged` are chains
    that both sides appended to, and `forks` the runs they were brought in as. `collected` were
    removed for good on one side: they are neither brought back nor removed on the other."""

    source: str
    target: str
    runs: list[str] = field(default_factory=list)
    equal: int = 0
    files: int = 0
    entries: int = 0
    sent_bytes: int = 0
    open_runs: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    forks: list[str] = field(default_factory=list)
    collected: list[str] = field(default_factory=list)
    diverged: list[Divergence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Is there nothing that somebody must look at?"""
        return not (self.findings or any(one.fork is None for one in self.diverged))


def unavailable(source: str, target: str, error: HoldfastError) -> SyncReport:
    """The report of a sync that did not come about."""
    return SyncReport(source, target, findings=[finding(error, "this sync: what arrived stays")])


def beat(target: Repository, open_runs: Mapping[str, int]) -> None:
    """Say in the target that the writers of these runs are alive, by the heads of their newest entries."""
    for run_id, number in open_runs.items():
        target.manifest(run_id).beat(number)


def sides_of(
    source: Repository,
    target: Repository,
    what: What,
    *,
    fork: bool = False,
    recheck: bool = False,
) -> Sides:
    """The two stores of a sync, and what is remembered of them unless that shall be looked at again."""
    ids = (source.store_id, source.backend.url, target.store_id, target.backend.url)
    memory = Memory.of(*ids, repr(what))
    if recheck:
        memory.forget()
    return Sides(source, target, what, memory, fork)


@contextmanager
def workers(sides: Sides, count: int | None = None) -> Iterator[Executor]:
    """The threads of a sync: as many as the busier side has use for."""
    both = (sides.source.backend.capabilities, sides.target.backend.capabilities)
    with ThreadPoolExecutor(count or max(one.parallel for one in both), "holdfast-sync") as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def sync(
    sides: Sides,
    runs: Collection[str] | None = None,
    *,
    limit_bytes: int | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> SyncReport:
    """Plan and carry out at once."""
    with workers(sides, threads) as pool:
        return execute(plan(sides, pool, runs), pool, limit_bytes=limit_bytes, progress=progress)


def execute(
    planned: Plan,
    pool: Executor,
    *,
    limit_bytes: int | None = None,
    progress: Progress | None = None,
) -> SyncReport:
    """Carry out a plan. Raises BackendError (StorageFull, Unavailable, …); what arrived by then stays."""
    meter = Meter(planned.size_bytes, limit_bytes, progress)
    report = SyncReport(planned.source, planned.target)
    sides = planned.sides
    hold = None if planned.is_idle else Hold(sides.target, sides.source.store_id)
    for _ in range(_MOST_TRIES):
        try:
            if hold and planned.is_overtaken():
                planned = plan(sides, pool, planned.chosen)
            _Sync(planned, pool, meter, hold, report).run()
            break
        except NameRetired:  # a collector was quicker: what it condemned is stored anew
            planned = plan(sides, pool, planned.chosen)
    else:
        raise BackendError(f"{planned.target}: collectors were quicker {_MOST_TRIES} times")
    if hold:
        hold.close()
    report.sent_bytes = meter.sent
    return report


class _Sync:
    """One plan while it is carried out."""

    def __init__(
        self, planned: Plan, pool: Executor, meter: Meter, hold: Hold | None, report: SyncReport
    ) -> None:
        self._plan = planned
        self._pool = pool
        self._meter = meter
        self._hold = hold
        self.report = report
        source, target = planned.sides.source, planned.sides.target
        self._source, self._target = source.backend, target.backend
        self._stream = without_cache(self._source)  # what goes by once is not worth keeping here
        self._into = target.condemned.view(self._target)  # no file gets a condemned name
        self._rewriter = Rewriter(source, self._into, meter)
        self._done: dict[str, HoldfastError | None] = {}  # what was sent, or why it was not
        self._rests_on: dict[str, list[str]] = {}  # the files of what was rewritten
        self._good: list[RunPlan] = []
        self._left_out: set[str | None] = set(planned.left_out)
        report.equal = planned.equal
        report.diverged, report.findings = list(planned.diverged), list(planned.findings)
        report.collected = list(planned.collected)

    def run(self) -> None:
        for group in (self._plan.first, self._plan.runs, self._plan.last):
            for first in range(0, len(group), _BATCH):
                self._batch(group[first : first + _BATCH])
        self._learn()

    def _is_same_by_now(self, one: RunPlan) -> bool:
        """Has another sync founded the same experiment a moment ago?"""
        if one.run_id not in self._plan.ours.named:
            return False
        states = [
            Chain(backend, one.run_id).load().state for backend in (self._source, self._target)
        ]
        return sync_chains.means_the_same(*states)

    def _batch(self, runs: list[RunPlan]) -> None:
        pieces = self._plan.pieces
        names = {name for run in runs for name in run.waits} - self._done.keys()
        self._rely_on(self._files(runs))  # before anything is sent, so that none of it is collected
        copies = sorted(names & pieces.copies.keys())
        is_recipe = {name for name in copies if name.startswith(layout.RECIPES)}
        self._send([name for name in copies if name not in is_recipe])
        before = len(self._rests_on)
        for run in runs:
            self._rewrite(run)
        if len(self._rests_on) > before:
            self._rely_on({name for names in self._rests_on.values() for name in names})
        self._send(sorted(name for name in is_recipe if self._can_follow(name)))
        forks = {run.run_id: run.fork.origin for run in runs if run.fork}
        self._send(sorted(names & self._plan.segments.keys()), forks)
        whole = [run for run in runs if self._is_whole(run)]
        for run, error in zip(
            whole, self._pool.map(partial(self._tried, self._publish), whole), strict=True
        ):
            if error is None:
                self._count(run)
            elif not (isinstance(error, Diverged) and self._is_same_by_now(run)):
                self._leave_out(run, [error])

    def _send(self, names: list[str], forks: Mapping[str, str] = MappingProxyType({})) -> None:
        """Send these files; the segments of a fork lie under its origin in the source."""

        def one(name: str) -> HoldfastError | None:
            run_id = name.split("/", 2)[1]
            place = layout.run(forks[run_id]) + name.split("/", 2)[2] if run_id in forks else name
            try:
                send(self._stream, self._into, place, self._meter, name)
            except Corrupt as error:
                return error
            return None

        for name, error in zip(names, self._pool.map(one, names), strict=True):
            self._done[name] = error
            self.report.files += error is None

    def _can_follow(self, name: str) -> bool:
        """Are the packs and blobs of a recipe in the target?"""
        waits = self._plan.pieces.waits[Digest(name.rpartition("/")[2].partition(".")[0])]
        return all(self._done.get(one) is None for one in waits)

    def _rewrite(self, run: RunPlan) -> None:
        rewrites = self._plan.pieces.rewrites
        todo = [name for name in rewrites if rewritten(name) in run.waits - self._done.keys()]
        if todo:
            self._rewriter.learn(self._recipes_of(run))
        for name in todo:
            try:
                digest = rewrites[name][0]
                rests_on = self._rewriter.rewrite(digest, name, self._is_in_target)
                self._rests_on[rewritten(name)] = rests_on
                self._done[rewritten(name)] = None
                self.report.files += 2
            except Corrupt as error:
                self._done[rewritten(name)] = error

    def _recipes_of(self, run: RunPlan) -> Iterable[str]:
        """The recipes in the target of what is there of the run: their chunks need not be sent again."""
        files = self._plan.files_there
        if files is None:
            return []
        files.look(layout.RECIPES, run.related, self._pool)
        return [name for digest in run.related for name in files.recipes(digest)]

    def _rely_on(self, names: set[str]) -> None:
        if self._hold:
            self._hold.add(names)

    def _files(self, runs: list[RunPlan]) -> set[str]:
        """The names of all files that these runs need and the target has, or gets under the same name."""
        pieces = self._plan.pieces
        again = {rewritten(name) for name in pieces.rewrites}
        names = {name for run in runs for name in run.waits} - again
        found = [n for n in names if n.startswith(layout.RECIPES) and n not in pieces.copies]
        for homes in self._pool.map(self._homes, found):
            names |= homes
        return names

    def _homes(self, name: str) -> set[str]:
        """The packs and blobs of a recipe that the target had."""
        try:
            return homes_of(recipe.decode(self._target.get(name), place=name))
        except (Corrupt, NameNotFound):
            return set()  # what it was to make, fsck says

    def _is_in_target(self, home: str) -> bool:
        if home in self._done:
            return self._done[home] is None
        files = self._plan.files_there
        return files is not None and files.size(home) is not None

    def _is_whole(self, run: RunPlan) -> bool:
        """Is everything in the target that the run waits for? If not, it is left out."""
        errors = {str(e): e for name in run.waits if (e := self._done.get(name)) is not None}
        if run.names_run in self._left_out:
            text = f"run {run.names_run}, which it names, was left out"
            errors[text] = Corrupt(text, place=run.run_id)
        if errors:
            self._leave_out(run, errors.values())
        return not errors

    def _leave_out(self, run: RunPlan, errors: Iterable[HoldfastError]) -> None:
        self._left_out.add(run.run_id)
        is_run = run.run_id not in self._plan.ours.named
        if is_run and is_gone(self._plan.sides, run.run_id):
            self.report.collected.append(run.run_id)
            return
        what = run.run_id if run.run_id in self._plan.ours.named else f"run {run.run_id}"
        for error in errors:
            self.report.findings.append(finding(error, f"{what}, which was left out"))

    def _tried(self, work: Callable[[T], None], item: T) -> HoldfastError | None:
        try:
            work(item)
        except Damage as error:
            return error
        return None

    def _publish(self, run: RunPlan) -> None:
        """What is absent is said before the entries that name it; the manifest comes before the ranks."""
        if run.missing or run.run_id in self._plan.theirs.noted:
            about = {"url": self._source.url, "store_id": self._plan.sides.source.store_id}
            here = {digest.hex for digest in run.artifacts}
            here |= {name.rpartition("/")[2].removesuffix(".seg") for name in run.segments}
            note = absent.note(self._target, run.run_id, about, run.missing, here)
            run.is_partial = bool(note)
        for one in run.chains:
            self._publish_chain(one)
        if run.fork:
            run.fork_entries = sync_fork.publish(self._target, run.fork)

    def _publish_chain(self, one: ChainPlan) -> None:
        if one.count:
            self._meter.add(sync_chains.publish(self._target, one, self._source))

    def _count(self, run: RunPlan) -> None:
        self._good.append(run)
        self.report.entries += run.entries + run.fork_entries
        if run.fork:
            self.report.forks.append(run.run_id)
        if run.run_id in self._plan.ours.named:
            return
        if run.entries or run.fork or self._done.keys() & run.waits:
            self.report.runs.append(run.run_id)
        else:
            self.report.equal += 1
        if run.is_open:
            self.report.open_runs.append(run.run_id)
        if run.is_partial:
            self.report.partial.append(run.run_id)

    def _learn(self) -> None:
        """Remember what is equal now, by what the target lists."""
        good, memory = self._good, self._plan.sides.memory
        theirs = self._plan.theirs
        if not self._plan.is_idle:
            theirs = Chains.listed(self._target, {run.run_id for run in good})
        for run in good:
            there = theirs.runs.get(run.run_id, theirs.named)
            for prefix, ours in run.tips.items():
                _learn(memory, prefix, ours, there.get(prefix))
        memory.keep()


def _learn(memory: Memory, prefix: str, ours: Tip, theirs: Tip | None) -> None:
    if theirs is not None and theirs.number >= ours.number:
        memory.learn(prefix, ours, theirs, True)
