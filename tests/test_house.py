"""The house: imports go down only, `format` does no I/O, and nothing grows beyond what one can read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "holdfast"
# A module may import from its own floor and from those below; the first entry that matches counts.
FLOORS: list[tuple[str, int]] = [
    ("errors", 0), ("digest", 0), ("timestamp", 0), ("names", 0), ("ids", 0), ("wire", 0),
    ("records", 0),
    ("format", 1), ("chunking", 1), ("codecs", 1), ("query", 1), ("summary", 1), ("sql", 1),
    ("backend", 2),
    ("blobs", 3), ("bundles", 3), ("verified", 3), ("chain", 3), ("series", 3), ("catalog", 3),
    ("condemned", 3),
    ("process", 3), ("liveness", 3), ("provenance", 3), ("directories", 3), ("values", 3),
    ("arrays", 3), ("keyfiles", 3), ("signing", 7), ("ahead", 3), ("packs", 3),
    ("columnar", 3), ("arrow", 3), ("downsample", 3), ("selection", 3), ("together", 3),
    ("proven", 3), ("repository", 4), ("pinned", 4), ("work", 5), ("outbox", 4), ("backlog", 5),
    ("ops", 5), ("keeper", 5), ("publisher", 6), ("system", 6), ("writer", 6), ("remote_writer", 6),
    ("seed", 7), ("reading", 7), ("naming", 7), ("writing", 7), ("checkpointing", 7),
    ("checking", 7), ("collecting", 7), ("syncing", 7), ("run", 7), ("absent", 3),
    ("store", 7), ("storage", 8), ("lockfile", 8),
    ("cli", 9), ("demo", 9), ("testing", 9), ("integrations", 9),
]  # fmt: skip
NOT_EACH_OTHER = [
    ("format", "backend"),
    ("query", "backend"),
    ("cli", "ops"),
    ("cli", "repository"),
]
MOST_LINES = 450
IO = {"os", "io", "pathlib", "socket", "shutil", "tempfile", "subprocess", "urllib", "sqlite3"}
MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def floor(module: str) -> int:
    top = module.split(".")[0]
    for name, number in FLOORS:
        if top == name or top.startswith(f"{name}_"):
            return number
    raise AssertionError(f"{module} has no floor: give it one in tests/test_house.py")


def imports(path: Path) -> set[str]:
    """What of Holdfast the module imports when it runs; annotations alone do not count."""
    found: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"{path}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)

    Visitor().visit(ast.parse(path.read_text()))
    return found


def ours(path: Path) -> set[str]:
    names = {
        name.removeprefix("holdfast.") for name in imports(path) if name.startswith("holdfast.")
    }
    return {name for name in names if name != "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    module = name_of(path)
    if not module:
        return  # the package itself re-exports late
    public = floor("cli")
    for name in ours(path):
        if floor(module) >= public and name.split(".")[0] not in dict(FLOORS):
            continue  # doors take names from the package itself
        assert floor(name) <= floor(module), f"{module} imports {name}, which is above it"
        for one, other in NOT_EACH_OTHER:
            together = (module.split(".")[0], name.split(".")[0])
            assert together not in {(one, other), (other, one)}, f"{module} imports {name}"


@pytest.mark.parametrize("path", sorted((SOURCE / "format").glob("*.py")), ids=name_of)
def test_format_does_no_input_or_output(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & IO
    calls = [n.func.id for n in ast.walk(ast.parse(path.read_text())) if _is_call(n)]  # type: ignore[attr-defined]
    assert not {"open", "print", "input"} & set(calls)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_can_be_read_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(tree) or not text, f"{path.name} says nothing of itself"
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert not asserts or "testing" in path.parts, "corruption is an error, never an assert"


def test_importing_holdfast_imports_neither_numpy_nor_click() -> None:
    code = "import sys, holdfast; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "click", "msgpack", "sqlite3", "fsspec"} & set(loaded)
