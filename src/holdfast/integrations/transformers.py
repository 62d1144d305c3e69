"""A callback for the Trainer of Transformers that stores what it logs, and the checkpoints it saves.

    from holdfast.integrations.transformers import HoldfastCallback
    Trainer(..., callbacks=[HoldfastCallback(run, keep_last=2)])

A checkpoint is the folder that the Trainer writes, with optimizer and scheduler: what `get_artifact` writes
out is one that `resume_from_checkpoint` takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from transformers import TrainerCallback
except ImportError as error:
    from holdfast.errors import MissingDependency

    raise MissingDependency(
        "Transformers is not installed: pip install transformers", missing="transformers"
    ) from error

if TYPE_CHECKING:
    from holdfast import Run


class HoldfastCallback(TrainerCallback):  # type: ignore[misc]
    """Logs each number that the Trainer logs, and stores each checkpoint when it is saved, unless
    `checkpoints` is False. `checkpoint` are the options of `run.log_checkpoint`.

    Only the process of rank 0 writes."""

    def __init__(self, run: Run | None, *, checkpoints: bool = True, **checkpoint: Any) -> None:
        self.run = run
        self.checkpoints = checkpoints
        self.checkpoint = {"key": "checkpoints/{step}", **checkpoint}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **rest: Any
    ) -> None:
        """Called by the Trainer with what it logs."""
        if not state.is_world_process_zero or self.run is None:
            return
        values = {key: value for key, value in (logs or {}).items() if type(value) in (int, float)}
        if values:
            self.run.log(values, step=state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Called by the Trainer when it has saved a checkpoint."""
        if not (state.is_world_process_zero and self.checkpoints) or self.run is None:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.run.log_checkpoint(folder, state.global_step, **self.checkpoint)
