"""A lineage for people, as a tree of lines, and for Graphviz."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from holdfast.ops.ancestry import ArtifactNode, Lineage, RunNode


def tree(found: Lineage) -> str:
    """Lines: what made the start and what that had read, then what came of it. What is there twice is
    followed once."""
    return "\n".join(_Tree(found).lines())


class _Tree:
    def __init__(self, found: Lineage) -> None:
        self._found = found
        self._makers, self._users = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        self._made, self._read = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for run_id, _, digest in found.made:
            self._makers[digest].add(run_id)
            self._made[run_id].add(digest)
        for run_id, digest in found.used:
            self._users[digest].add(run_id)
            self._read[run_id].add(digest)

    def lines(self) -> Iterator[str]:
        start = self._found.start
        is_run = start in self._found.runs
        yield run_line(self._found.runs[start]) if is_run else self._artifact(start)
        yield from self._above(start, "", is_run, set())
        yield from self._below(start, "", is_run, set())

    def _above(self, at: str, indent: str, is_run: bool, seen: set[str]) -> Iterator[str]:
        found = self._read[at] if is_run else self._makers[at]
        word = "read" if is_run else "made by"
        yield from self._branch(found, word, indent, is_run, seen, self._above)

    def _below(self, at: str, indent: str, is_run: bool, seen: set[str]) -> Iterator[str]:
        found = self._made[at] if is_run else self._users[at]
        word = "made" if is_run else "read by"
        yield from self._branch(found, word, indent, is_run, seen, self._below)

    def _branch(  # type: ignore[no-untyped-def]
        self, found: set[str], word: str, indent: str, is_run: bool, seen: set[str], deeper
    ) -> Iterator[str]:
        for name in sorted(found):
            line = self._artifact(name) if is_run else run_line(self._found.runs[name])
            again = " (see above)" if name in seen else ""
            yield f"{indent}├ {word} {line}{again}"
            if name not in seen:
                seen.add(name)
                yield from deeper(name, f"{indent}│ ", not is_run, seen)

    def _artifact(self, digest: str) -> str:
        return artifact_line(self._found.artifacts[digest])


def run_line(run: RunNode) -> str:
    """`run X of resnet, Success`"""
    if run.experiment is None:
        return f"run {run.run_id}, which is not in this store"
    deleted = ", deleted" if run.is_deleted else ""
    return f"run {run.run_id} of {run.experiment}, {run.state}{deleted}"


def artifact_line(artifact: ArtifactNode) -> str:
    """`model.pt (sha256:…)`"""
    keys = ", ".join(artifact.keys[:3]) + (", …" if len(artifact.keys) > 3 else "")
    return f"{keys} ({artifact.digest})" if keys else artifact.digest


def dot(found: Lineage) -> str:
    """A digraph in DOT: boxes are runs, ellipses artifacts; sorted, so that equal ones give equal text."""
    lines = ["digraph lineage {", "  rankdir=LR;"]
    for run_id, run in sorted(found.runs.items()):
        about = [run.experiment or "not in this store", run.state or ""]
        label = "\n".join([run_id, ", ".join(filter(None, about))])
        style = ', style="dashed"' if run.experiment is None or run.is_deleted else ""
        lines.append(f"  {_quoted('run ' + run_id)} [shape=box, label={_quoted(label)}{style}];")
    for digest, artifact in sorted(found.artifacts.items()):
        label = "\n".join([*artifact.keys[:3], digest[:19]])
        lines.append(f"  {_quoted(digest)} [label={_quoted(label)}];")
    arrows = {(f"run {run_id}", digest) for run_id, _, digest in found.made}
    arrows |= {(digest, f"run {run_id}") for run_id, digest in found.used}
    lines += [f"  {_quoted(one)} -> {_quoted(other)};" for one, other in sorted(arrows)]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
