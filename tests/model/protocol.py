"""The protocol of docs/format/gc.md as a model: one artifact `d`, the ways to store it, chains, a log.

`d` can be read if its blob `x` is there, or a recipe `r…>home` whose home is there. Homes are the pack `q`,
which a dead run left and new versions may share, and the fresh packs `p…` of writers. Each step of a process
is one call to the storage. `Rules` switches the parts of the protocol off one by one: what is each for?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

Names = frozenset[str]
Entry = tuple[Any, ...]
NONE: Names = frozenset()


@dataclass(frozen=True)
class Rules:
    """What holds; everything in the real protocol."""

    fence: bool = True  # collectors append to every open chain
    empty_first: bool = (
        True  # entry 0 has no reference, and a closed chain is opened by an entry without
    )
    recheck: bool = True  # a writer that was overtaken reads the log and looks again
    retire: bool = (
        True  # what was removed is never used again; else it is, once the collection is done
    )
    decide: bool = (
        True  # one entry says what goes; else each collector deletes what it found itself
    )
    sessions_first: bool = True  # what syncs hold is read before the chains of runs
    collect_runs: bool = True  # a deleted run counts until an entry says that it is collected
    condemn: bool = True  # else: a grace period, which whoever sleeps outlives


class State(NamedTuple):
    """All that is shared, and where each process is."""

    files: Names
    log: tuple[Entry, ...]
    chains: tuple[tuple[Entry, ...], ...]
    processes: tuple[tuple[Any, ...], ...]


class ChainState(NamedTuple):
    """What the entries of a chain come to."""

    is_open: bool = False
    refers: bool = False
    deleted: bool = False
    collected: bool = False
    packed: bool = False  # it asked for the packed layout: the plain one may go
    holds: Names = NONE
    fence: int = -1


@cache
def chain_state(entries: tuple[Entry, ...]) -> ChainState:  # noqa: C901 - one line an entry
    state, writer = ChainState(), False
    for kind, *more in entries:
        if kind == "begin":  # by a writer that stays
            writer, state = True, state._replace(is_open=True)
        elif kind == "open":
            state = state._replace(is_open=True)
        elif kind == "fence":
            state = state._replace(is_open=writer, fence=more[0])
        elif kind == "refer":
            state = state._replace(is_open=writer, refers=True)
        elif kind == "packed":
            state = state._replace(is_open=writer, packed=True)
        elif kind == "delete":
            state = state._replace(deleted=True)
        elif kind == "undelete":
            state = state._replace(is_open=writer, deleted=False)
        elif kind == "collect":
            state = ChainState(collected=True)
        elif kind == "hold":
            state = state._replace(holds=state.holds | more[0])
        elif kind == "close":
            writer, state = False, state._replace(is_open=False, holds=NONE)
    return state


class Log(NamedTuple):
    """What the log says."""

    collections: int = 0
    phase: str = "done"  # condemned, decided, done: of the newest collection
    condemned: Names = NONE
    doomed: Names = NONE  # of the newest collection, once it is decided
    retired: Names = NONE


@cache
def log_state(entries: tuple[Entry, ...], rules: Rules) -> Log:
    log = Log()
    for kind, *more in entries:
        if kind == "condemn":
            log = log._replace(
                collections=log.collections + 1, phase="condemned", condemned=more[0], doomed=NONE
            )
        elif kind == "decide":
            doomed = log.condemned - more[0]
            log = Log(log.collections, "decided", NONE, doomed, log.retired | doomed)
        else:
            kept = log.retired | (log.condemned - more[0] if more else NONE)
            log = Log(log.collections, "done", NONE, NONE, kept if rules.retire else NONE)
    return log


def home_of(recipe: str) -> str:
    return recipe.partition(">")[2]


def ways(files: Names, hidden: Names = NONE) -> list[str]:
    """The blob and the recipes by which `d` can be read without what is hidden."""
    seen = files - hidden
    return [f for f in seen if f == "x" or (f[0] == "r" and home_of(f) in seen)]


def live(found: list[ChainState], files: Names, retired: Names) -> Names:
    """What a collector keeps, given the chains it has read and the files it has listed."""
    names: Names = NONE.union(*(state.holds for state in found))
    roots = [state for state in found if state.refers]
    if not roots:
        return names
    recipes = [way for way in ways(files, retired) if way != "x"]
    if not (recipes and all(state.packed for state in roots)):
        names |= {"x"}
    return names.union(recipes, map(home_of, recipes))


def is_lost(state: State) -> bool:
    """Is there a chain that refers to `d`, and no way to read it?"""
    return any(chain_state(c).refers for c in state.chains) and not ways(state.files)


Out = Iterator[tuple[tuple[str, str], State]]


class Model:
    """Processes are tuples `(kind, chain, pc, …)`; see the method of each kind."""

    def __init__(
        self, rules: Rules, *, collections: int = 1, tries: int = 2, lost: bool = True
    ) -> None:
        self.rules, self.collections, self.tries, self.lost = rules, collections, tries, lost
        self._kinds: dict[str, Callable[[State, int, tuple[Any, ...]], Out]] = {
            "writer": self._writer, "deleter": self._deleter, "syncer": self._syncer,
            "collector": self._collector,
        }  # fmt: skip

    def successors(self, state: State) -> Out:
        for number, process in enumerate(state.processes):
            if process[2] != "end":
                yield from self._kinds[process[0]](state, number, process)

    # Steps.

    def _to(self, state: State, number: int, what: str, *process: Any, **shared: Any) -> Any:
        """Process `number` goes on as `process`; together with it `shared` changes."""
        old = state.processes[number]
        processes = (
            *state.processes[:number],
            (*old[:2], *process),
            *state.processes[number + 1 :],
        )
        return (f"{old[0]} {number}", what), state._replace(processes=processes, **shared)

    def _append(self, state: State, chain: int, *entries: Entry) -> Any:
        chains = state.chains
        return (*chains[:chain], chains[chain] + entries, *chains[chain + 1 :])

    # A writer: (kind, chain, pc, known length of the log, that of the chain, try, entry to make, share).
    # It begins a run, adds to one, packs what is there, or undeletes: that differs in the last entry only.

    def _writer(self, state: State, n: int, me: tuple[Any, ...]) -> Out:  # noqa: C901 - one step each
        _, chain, pc, known, length, tried, entry, share = me
        entries = state.chains[chain]
        now = chain_state(entries)

        def to(
            what: str,
            pc: str,
            *,
            known: int = known,
            length: int = length,
            tried: int = tried,
            **s: Any,
        ) -> Any:
            return self._to(state, n, what, pc, known, length, tried, entry, share, **s)

        if pc == "begin":
            if now.collected:
                yield to("gives up", "end")
            elif now.is_open or not self.rules.empty_first:
                yield to("loads", "log", length=len(entries))
            else:
                first = ("begin",) if not entries else ("open",)
                yield to(
                    "opens",
                    "log",
                    length=len(entries) + 1,
                    chains=self._append(state, chain, first),
                )
        elif pc == "log":
            yield to("reads the log", "choose", known=len(state.log))
        elif pc == "choose":
            yield from self._choose(state, n, me, to)
        elif pc == "pack":
            name = f"p{n}{tried}"
            yield to("stores a pack", f"recipe>{name}", files=state.files | {name})
        elif pc.startswith("recipe"):
            name = f"r{n}{tried}>{home_of(pc)}"
            yield to("stores a recipe", "commit", files=state.files | {name})
        elif pc == "blob":
            yield to("stores a blob", "commit", files=state.files | {"x"})
        elif pc == "commit":
            if length == len(entries):
                changed = self._append(state, chain, (entry,))
                yield to("commits", "end", chains=changed)
                if self.lost:
                    yield to("commits, answer lost", "again", chains=changed)
            else:
                yield to("is overtaken", "again")
        elif pc == "again":  # it reads its chain
            if not self.rules.recheck:
                yield to("loads", "commit", length=len(entries))
            elif tried + 1 < self.tries:
                yield to("begins again", "begin", tried=tried + 1)

    def _choose(self, state: State, n: int, me: tuple[Any, ...], to: Any) -> Out:
        """What to rely on, and what to store."""
        _, chain, _, known, _, _, entry, share = me
        hidden = self._hidden(state, known)
        found = ways(state.files, hidden)
        if entry == "packed":
            found = [way for way in found if way != "x"]
        if entry == "undelete":
            if found and f"chain{chain}" not in hidden:
                yield to("finds all of it", "commit")
            else:
                yield to("gives up", "end")
        elif found:
            yield to("finds it stored", "commit")
        elif share and "q" in state.files - hidden:
            yield to("finds a pack to share", "recipe>q")
        elif "x" in hidden or entry == "packed":
            yield to("must pack", "pack")
        else:
            yield to("must store", "blob")

    def _hidden(self, state: State, known: int) -> Names:
        log = log_state(state.log[:known], self.rules)
        return log.condemned | log.doomed | log.retired

    # A deleter: (kind, chain, pc). Puts the tombstone on a run.

    def _deleter(self, state: State, n: int, me: tuple[Any, ...]) -> Out:
        now = chain_state(state.chains[me[1]])
        if now.refers and not now.deleted:
            yield self._to(
                state, n, "deletes", "end", chains=self._append(state, me[1], ("delete",))
            )

    # A syncer: (kind, chain of the run, pc, its own chain, known length of the log, of its chain, try).

    def _syncer(self, state: State, n: int, me: tuple[Any, ...]) -> Out:  # noqa: C901 - one step each
        _, chain, pc, own, known, length, tried = me
        entries = state.chains[own]

        def to(
            what: str,
            pc: str,
            *,
            known: int = known,
            length: int = length,
            tried: int = tried,
            **s: Any,
        ) -> Any:
            return self._to(state, n, what, pc, own, known, length, tried, **s)

        if pc == "begin":
            yield to("opens", "log", length=1, chains=self._append(state, own, ("begin",)))
        elif pc == "log":
            yield to("reads the log", "choose", known=len(state.log))
        elif pc == "choose":
            if ways(state.files, self._hidden(state, known)):
                yield to("finds it stored", "hold")
            elif "x" in self._hidden(state, known):
                yield to("must pack", "pack")
            else:
                yield to("copies", "hold", files=state.files | {"x"})
        elif pc == "pack":
            yield to("stores a pack", "recipe", files=state.files | {f"p{n}{tried}"})
        elif pc == "recipe":
            yield to("stores a recipe", "hold", files=state.files | {f"r{n}{tried}>p{n}{tried}"})
        elif pc == "hold":
            if length == len(entries):
                found = ways(state.files, self._hidden(state, known))
                held = frozenset([*found, *(home_of(w) for w in found if w != "x")])
                yield to("holds", "create", chains=self._append(state, own, ("hold", held)))
            elif not self.rules.recheck:
                yield to("loads", "hold", length=len(entries))
            elif tried + 1 < self.tries:
                yield to("loads", "log", length=len(entries), tried=tried + 1)
        elif pc == "create":
            yield to("creates the run", "close", chains=self._append(state, chain, ("refer",)))
        elif pc == "close":
            yield to("closes", "end", chains=self._append(state, own, ("close",)))

    # A collector: (kind, nothing, pc, …).

    def _collector(self, state: State, n: int, me: tuple[Any, ...]) -> Out:  # noqa: C901 - one step each
        log = log_state(state.log, self.rules)
        pc, *more = me[2:]

        def to(what: str, *process: Any, **shared: Any) -> Any:
            return self._to(state, n, what, *process, **shared)

        if pc == "idle":
            yield from self._begin(state, log, to)
        elif pc == "condemn":
            names, length = more
            if len(state.log) != length:
                yield to("is overtaken", "idle")
            else:
                after = (*state.log, ("condemn", names))
                yield to("condemns", "list", (), log=after)
                if self.lost:
                    yield to("condemns, answer lost", "idle", log=after)
        elif pc == "list":
            yield from self._list(state, log, more, to)
        elif pc == "fence":
            yield from self._fence(state, more, to)
        elif pc == "decide":
            yield from self._decide(state, log, more, to)
        elif pc == "delete":
            left, number, spared = more
            if left:
                name = min(left)
                yield to(
                    f"deletes {name[0]}",
                    "delete",
                    left - {name},
                    number,
                    spared,
                    files=state.files - {name},
                )
            elif log.collections == number and log.phase != "done":
                end = ("done",) if self.rules.decide else ("done", spared)
                yield to("is done", "idle", log=(*state.log, end))
            else:
                yield to("is overtaken", "idle")

    def _list(self, state: State, log: Log, more: list[Any], to: Any) -> Out:
        """Which chains there are: those of syncs, and the others once those are read."""
        own = {process[3] for process in state.processes if process[0] == "syncer"}
        there = {c for c, entries in enumerate(state.chains) if entries}
        first = len(more) == 1
        found, length, number = (*more, len(state.log), log.collections) if first else more
        if not self.rules.sessions_first:
            left, what, runs_to_come = there, "lists all chains", False
        elif first:
            left, what, runs_to_come = there & own, "lists the syncs", True
        else:
            left, what, runs_to_come = there - own, "lists the runs", False
        yield self._read_on(to, what, tuple(sorted(left)), found, length, number, runs_to_come)

    @staticmethod
    def _read_on(to: Any, what: str, left: tuple[int, ...], *more: Any, **shared: Any) -> Any:
        """Read the chains that are left; then list the runs, if they are to come; then decide."""
        *known, runs_to_come = more
        if left:
            return to(what, "fence", left, *more, **shared)
        return to(what, "list" if runs_to_come else "decide", *known, **shared)

    def _begin(self, state: State, log: Log, to: Any) -> Out:
        """The first mark is free to be wrong: what counts is the second."""
        if log.phase == "decided":
            yield to("joins", "delete", log.doomed, log.collections, NONE)
        elif log.phase == "condemned":
            yield to("joins", "list", ())
        elif log.collections < self.collections:
            found = [chain_state(c) for c in state.chains]
            roots = [s for s in found if not s.deleted]
            dead = state.files - live(roots, state.files, log.retired)
            dead |= {f"chain{c}" for c, s in enumerate(found) if s.deleted and not s.collected}
            if dead and self.rules.condemn:
                yield to("marks", "condemn", dead, len(state.log))
            elif dead:  # with a grace period only, it deletes what it found, some time later
                yield to("marks", "delete", dead & state.files, log.collections, NONE)

    def _fence(self, state: State, more: list[Any], to: Any) -> Out:
        (chain, *rest), found, length, number, runs_to_come = more
        now = chain_state(state.chains[chain])
        entry: Entry | None = None
        if now.deleted and self.rules.collect_runs:
            entry = ("collect",)
        elif self.rules.fence and now.is_open and now.fence < number:
            entry = ("fence", number)
        chains = self._append(state, chain, entry) if entry else state.chains
        now = chain_state(chains[chain])
        if now.deleted:  # without the rule, the tombstone is enough
            now = ChainState()
        what = f"{entry[0]}s chain {chain}" if entry else f"reads chain {chain}"
        yield self._read_on(
            to, what, tuple(rest), (*found, now), length, number, runs_to_come, chains=chains
        )

    def _decide(self, state: State, log: Log, more: list[Any], to: Any) -> Out:
        found, length, number = more
        if log.collections != number or log.phase != "condemned":
            yield to("is overtaken", "idle")
            return
        spared = log.condemned & live(list(found), state.files, log.retired)
        if not self.rules.decide:
            yield to("decides alone", "delete", log.condemned - spared, number, spared)
        elif len(state.log) == length:
            after = (*state.log, ("decide", spared))
            yield to("decides", "delete", log.condemned - spared, number, spared, log=after)
        else:
            yield to("is overtaken", "idle")


# Who meets whom. Chain 0 is that of the first writer, and so on.

Chain = tuple[Entry, ...]
ENDED: Chain = (("begin",), ("close",))
REFERRING: Chain = (("begin",), ("refer",), ("close",))
DELETED: Chain = (*REFERRING, ("delete",))
COLLECTOR = ("collector", -1, "idle")


def writer(chain: int, entry: str = "refer", *, share: bool = False) -> tuple[Any, ...]:
    return ("writer", chain, "begin", 0, 0, 0, entry, share)


def deleter(chain: int) -> tuple[Any, ...]:
    return ("deleter", chain, "delete")


def syncer(chain: int, own: int) -> tuple[Any, ...]:
    return ("syncer", chain, "begin", own, 0, 0, 0)


def world(files: str, chains: list[Chain], *processes: tuple[Any, ...]) -> State:
    """`files` are names apart by spaces."""
    return State(frozenset(files.split()), (), tuple(chains), processes)


def symmetric(successors: Callable[[State], Out]) -> Callable[[State], Out]:
    """The same, where it makes no difference which of the collectors is where."""

    def sorted_successors(state: State) -> Out:
        for step, after in successors(state):
            first = next(i for i, p in enumerate(after.processes) if p[0] == "collector")
            rest = tuple(sorted(after.processes[first:], key=repr))
            yield step, after._replace(processes=after.processes[:first] + rest)

    return sorted_successors
