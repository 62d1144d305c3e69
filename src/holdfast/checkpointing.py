"""The methods of `ExperimentStore` for checkpoints: their tensors, their differences, their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.ops.lookup import find_run

if TYPE_CHECKING:
    from holdfast.catalog import Catalog
    from holdfast.format.alias import Target
    from holdfast.ops.diff import TensorChange
    from holdfast.ops.tensors import Tensors
    from holdfast.ops.usage import Usage
    from holdfast.repository import Repository


class CheckpointMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    _artifact: Callable[[str, str | None], Target]
    _ask: Callable[[Callable[[Catalog], Any]], Any]

    def open_tensors(self, address: str, key: str | None = None) -> Tensors:
        """The tensors of a checkpoint, each read by itself; `address` as in `read_artifact`.

        It understands safetensors, torch files, npz, npy and GGUF, directories of shards, and torch
        distributed checkpoints. Raises ArtifactNotFound, InvalidValue if it is none of them, Corrupt.
        """
        from holdfast.ops.tensors import open_tensors

        found = self._artifact(address, key)
        digest = Digest.parse(str(found.digest))
        kind = self._kind(digest) if found.run_id is None else str(found.kind)
        return open_tensors(self.repository, digest, kind)

    def _kind(self, digest: Digest) -> str:
        """`directory` if the bytes of an artifact are a tree: its digest alone does not tell."""
        from holdfast.ops.artifacts import is_directory

        return "directory" if is_directory(self.repository, digest) else "bytes"

    def checkpoint_diff(
        self, one: str | tuple[str, str], other: str | tuple[str, str]
    ) -> list[TensorChange]:
        """Which tensors changed from one checkpoint to another, and how much.

        Each is an address or (run, key). What both share is not read; the rest is read
        a window at a time. Raises ArtifactNotFound, InvalidValue, Corrupt.
        """
        from holdfast.ops.diff import diff

        pairs = ((one, None) if isinstance(one, str) else one for one in (one, other))
        return list(diff(*(self.open_tensors(*pair) for pair in pairs)))

    def load_checkpoint(
        self, run_id: str, step: int | str | None = None, *, framework: str = "numpy"
    ) -> Any:
        """A checkpoint that `log_checkpoint` made: of a step, the `"last"` (also None) or the `"best"`.

        As `numpy` a map from names to arrays, nested ones flattened to names with dots; as `torch` what
        was saved, loaded with `weights_only=True`, or a map of tensors. Raises ArtifactNotFound,
        InvalidValue, Corrupt, MissingDependency.
        """
        from holdfast.ops.checkpoints import choose

        if framework not in ("numpy", "torch"):
            raise InvalidValue(f"framework={framework!r}: give numpy or torch")
        run_id = find_run(self.repository, run_id)
        key = choose(self.repository.manifest(run_id).load().state, step, run_id)
        if framework == "torch" and (whole := self._unpickled(run_id, key)) is not None:
            return whole
        with self.open_tensors(run_id, key) as tensors:
            get = tensors.torch if framework == "torch" else tensors.get_tensor
            return {name: get(name) for name in tensors.keys()}

    def _unpickled(self, run_id: str, key: str) -> Any:
        """What torch saved, None if torch did not write it."""
        if self._artifact(run_id, key).kind == "directory":
            return None
        import torch

        with self.open_artifact(run_id, key) as file:  # type: ignore[attr-defined]
            if file.read(4) != b"PK\x03\x04":
                return None
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)

    def du(self, where: str | None = None, *, by: str = "run") -> Usage:
        """How many bytes experiments, runs or artifacts (`by`) take, share, and would free if removed.

        `where` chooses the runs that get a row; what is shared is counted over all. Removed means: no
        longer named, and collected. Raises InvalidValue, QueryError, Corrupt.
        """
        from holdfast.ops.usage import RunState, usage

        shown = {row[0] for row in self._ask(lambda c: c.select(where, None, None, True))}
        every = self._ask(lambda catalog: catalog.select(None, None, None, True))
        states = [
            RunState(
                run_id,
                state.get("run", {}).get("experiment_id", ""),
                name or "",
                state,
                "deleted_at" in state.get("run", {}),
                run_id in shown,
            )
            for run_id, _, state, name, _ in every
        ]
        return usage(self.repository, states, by)
