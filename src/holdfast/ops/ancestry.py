"""What made what: from an artifact up to the runs that made it and what those had read, and down to the
runs that read it and what those made. The catalog answers, some queries a generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from holdfast.catalog import Catalog
from holdfast.catalog_write import Selected
from holdfast.format import inputs
from holdfast.format.alias import Target

Made = tuple[str, str, str]  # run, key, digest
Ask = Callable[[Callable[[Catalog], Any]], Any]
_MOST = 1 << 30  # generations


@dataclass(frozen=True, slots=True)
class RunNode:
    """A run; `experiment` and `state` are None if it is not in this store, but only named by an input."""

    run_id: str
    experiment: str | None = None
    state: str | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactNode:
    """Bytes, with the keys that runs have them under."""

    digest: str
    keys: tuple[str, ...]
    size_bytes: int | None


@dataclass(slots=True)
class Lineage:
    """`made` has (run, key, digest) for what runs made, `used` (run, digest) for what they read. Runs and
    artifacts are those that were reached from `start`, a run's id or a digest."""

    start: str
    runs: dict[str, RunNode] = field(default_factory=dict)
    artifacts: dict[str, ArtifactNode] = field(default_factory=dict)
    made: set[tuple[str, str, str]] = field(default_factory=set)
    used: set[tuple[str, str]] = field(default_factory=set)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what is in it, sorted."""
        runs = [self.runs[key] for key in sorted(self.runs)]
        artifacts = [self.artifacts[key] for key in sorted(self.artifacts)]
        return {
            "start": self.start,
            "runs": [
                {"run_id": r.run_id, "experiment": r.experiment, "state": r.state,
                 "deleted": r.is_deleted}
                for r in runs
            ],
            "artifacts": [
                {"digest": a.digest, "keys": list(a.keys), "size_bytes": a.size_bytes}
                for a in artifacts
            ],
            "made": [dict(zip(("run_id", "key", "digest"), one, strict=True)) for one in sorted(self.made)],
            "used": [dict(zip(("run_id", "digest"), one, strict=True)) for one in sorted(self.used)],
        }  # fmt: skip

    def to_dot(self) -> str:
        """For Graphviz: runs are boxes, artifacts ellipses, and arrows go from cause to effect."""
        from holdfast.ops.ancestry_text import dot

        return dot(self)

    def __str__(self) -> str:
        from holdfast.ops.ancestry_text import tree

        return tree(self)


def lineage(ask: Ask, start: Target, up: int | None = None, down: int | None = None) -> Lineage:
    """What led to a run or an artifact and what came of it, at most `up` and `down` runs away."""
    finder = _Finder(ask, Lineage(start.run_id if start.is_run else str(start.digest)))  # type: ignore[arg-type]
    if start.is_run:
        finder.up({str(start.run_id)}, up)
        finder.down({str(start.run_id)}, down)
    else:
        digest = str(start.digest)
        finder.add(digest, start.key)
        if up != 0:
            known = {(start.run_id, start.key or "", digest)} if start.run_id else set()
            finder.up(finder.makers({digest}, known), None if up is None else up - 1)
        if down != 0:
            users = finder.users({digest}) | finder.users_below(f"{start.address}/")
            finder.down(users, None if down is None else down - 1)
    return finder.finish()


class _Finder:
    def __init__(self, ask: Ask, found: Lineage) -> None:
        self._ask = ask
        self._found = found
        self._known: dict[str, Selected | None] = {}
        self._keys: dict[str, set[str]] = {}
        self._sizes: dict[str, int | None] = {}
        self._seen_up: set[str] = set()
        self._seen_down: set[str] = set()

    def add(self, digest: str, key: str | None) -> None:
        """An artifact, whoever made or read it."""
        self._keys[digest] = {key} if key else set()

    def up(self, runs: set[str], generations: int | None) -> None:
        """From runs to what they read, and to the runs that made that."""
        for left in range(_MOST if generations is None else generations, -1, -1):
            runs = runs - self._seen_up
            self._seen_up |= runs
            self._look_at(runs)
            if not runs or not left:
                return
            asked: set[str] = set()
            makers: set[Made] = set()
            for run_id in runs:
                for name, about in self._section(run_id, inputs.SECTION).items():
                    digest = self._artifact(about)
                    self._found.used.add((run_id, digest))
                    origin = inputs.origin(name)
                    makers |= {(*origin, digest)} if origin else set()
                    asked |= set() if origin else {digest}
            runs = self.makers(asked, makers)

    def makers(self, digests: set[str], known: set[Made]) -> set[str]:
        """The runs that made artifacts: as inputs say, or else all that have those bytes."""
        asked = digests - {digest for _, _, digest in known}
        made = known | set(self._with_digests("artifacts", asked))
        self._note(made)
        return {run_id for run_id, _, _ in made}

    def down(self, runs: set[str], generations: int | None) -> None:
        """From runs to what they made, and to the runs that read that."""
        for left in range(_MOST if generations is None else generations, -1, -1):
            runs = runs - self._seen_down
            self._seen_down |= runs
            self._look_at(runs)
            if not runs:
                return
            made = {
                (run_id, key, self._artifact(about))
                for run_id in runs
                for key, about in self._section(run_id, "artifacts").items()
            }
            self._note(made)
            if not left:
                return
            made_by = runs
            runs = self.users({digest for _, _, digest in made})
            runs |= {user for run_id in made_by for user in self.users_below(f"{run_id}:")}

    def users(self, digests: set[str]) -> set[str]:
        """The runs that read artifacts."""
        used = {
            (run_id, digest) for run_id, _, digest in self._with_digests(inputs.SECTION, digests)
        }
        self._found.used |= used
        return {run_id for run_id, _ in used}

    def users_below(self, prefix: str) -> set[str]:
        """The runs that read what a run made, by its name: also a file of a directory, whose digest no
        manifest has."""
        found: list[tuple[str, str, str]] = self._ask(lambda catalog: catalog.inputs_below(prefix))
        for run_id, name, digest in found:
            if origin := inputs.origin(name):
                self._note({(*origin, digest)})
                self._found.used.add((run_id, digest))
        return {run_id for run_id, _, _ in found}

    def finish(self) -> Lineage:
        found = self._found
        digests = {digest for _, _, digest in found.made} | {digest for _, digest in found.used}
        for digest in digests | self._keys.keys():
            keys = tuple(sorted(self._keys.get(digest, ())))
            found.artifacts[digest] = ArtifactNode(digest, keys, self._sizes.get(digest))
        self._look_at({run_id for run_id, *_ in (*found.made, *found.used)})
        found.runs = {run_id: _node(run_id, about) for run_id, about in self._known.items()}
        return found

    def _note(self, made: Iterable[tuple[str, str, str]]) -> None:
        for run_id, key, digest in made:
            self._found.made.add((run_id, key, digest))
            self._keys.setdefault(digest, set()).add(key)

    def _artifact(self, about: dict[str, Any]) -> str:
        digest = str(about["digest"])
        self._sizes.setdefault(digest, about.get("size_bytes"))
        return digest

    def _look_at(self, runs: set[str]) -> None:
        asked = runs - self._known.keys()
        found = {one.run_id: one for one in self._ask(lambda catalog: catalog.named(asked))}
        self._known |= {run_id: found.get(run_id) for run_id in asked}

    def _section(self, run_id: str, section: str) -> dict[str, Any]:
        known = self._known[run_id]
        return {} if known is None else known.state.get(section, {})

    def _with_digests(self, section: str, digests: set[str]) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]]
        found = self._ask(lambda catalog: catalog.with_digests(section, digests)) if digests else []
        return found


def _node(run_id: str, about: Selected | None) -> RunNode:
    if about is None:
        return RunNode(run_id)
    run = about.state.get("run", {})
    state = "Crashed" if about.crashed else str(run.get("status"))
    experiment = about.experiment_name or run.get("experiment_id")
    return RunNode(run_id, experiment, state, "deleted_at" in run)
