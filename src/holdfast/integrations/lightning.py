"""A callback for Lightning that stores what the Trainer logs, and its checkpoints.

    from holdfast.integrations.lightning import HoldfastCallback
    Trainer(callbacks=[HoldfastCallback(run, keep_last=2, keep_best=("val_loss", "min", 1))])

The checkpoint is the Trainer's own, so `trainer.fit(ckpt_path=…)` takes what `get_artifact` writes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

try:
    from lightning.pytorch import Callback
except ImportError:  # the older name of the same package
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        from holdfast.errors import MissingDependency

        raise MissingDependency(
            "Lightning is not installed: pip install lightning", missing="lightning"
        ) from error

if TYPE_CHECKING:
    from holdfast import Run


class HoldfastCallback(Callback):  # type: ignore[misc]
    """Logs `trainer.callback_metrics` after each epoch of training, and stores a checkpoint every
    `every_epochs` of them (0: none). `checkpoint` are the options of `run.log_checkpoint`.

    Only the process of rank 0 writes; the others take part in making the checkpoint, as Lightning asks."""

    def __init__(self, run: Run | None, *, every_epochs: int = 1, **checkpoint: Any) -> None:
        super().__init__()
        self.run = run
        self.every_epochs = every_epochs
        self.checkpoint = {"key": "checkpoints/{step}.ckpt", **checkpoint}

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Called by the Trainer when an epoch has ended, its validation included."""
        step = int(trainer.global_step)
        if trainer.is_global_zero and self.run is not None:
            values = {
                key: float(value)
                for key, value in trainer.callback_metrics.items()
                if getattr(value, "numel", lambda: 1)() == 1
            }
            if values:
                self.run.log(values, step=step)
        if self.every_epochs and (trainer.current_epoch + 1) % self.every_epochs == 0:
            self._store(trainer, step)

    def _store(self, trainer: Any, step: int) -> None:
        with TemporaryDirectory(prefix="holdfast-") as folder:
            path = Path(folder) / "model.ckpt"
            trainer.save_checkpoint(path)  # all ranks must call it
            if trainer.is_global_zero and self.run is not None:
                self.run.log_checkpoint(path, step, **self.checkpoint)
