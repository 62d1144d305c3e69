"""Holdfast: a content-addressed repository for experiments, where the bucket is the only server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from holdfast.checking import fsck, repair
    from holdfast.digest import Digest
    from holdfast.errors import HoldfastError
    from holdfast.format.lockfile import Locked
    from holdfast.lockfile import Checked, LockFile
    from holdfast.ops.aliases import Alias
    from holdfast.ops.ancestry import Lineage
    from holdfast.ops.diff import TensorChange
    from holdfast.ops.findings import Finding
    from holdfast.ops.fsck import Report
    from holdfast.ops.gc import Collected, GcPlan, Removal
    from holdfast.ops.handle import StoredArtifact
    from holdfast.ops.look import TailRecord
    from holdfast.ops.policy import Policy
    from holdfast.ops.publish import Unsent
    from holdfast.ops.repack import Repacked
    from holdfast.ops.repair import Repaired
    from holdfast.ops.snapshots import Taken
    from holdfast.ops.tail import Tail
    from holdfast.ops.tensors import TensorInfo, Tensors, TensorSlice
    from holdfast.ops.usage import Usage, UsageRow
    from holdfast.ops.versions import Version
    from holdfast.records import (
        ArtifactRecord,
        ExperimentRecord,
        MetricRecord,
        RunRecord,
        RunStatus,
    )
    from holdfast.run import Run
    from holdfast.series import Series
    from holdfast.sql import SqlRows
    from holdfast.storage import ExperimentStorage, StoreStorage
    from holdfast.store import ExperimentStore
    from holdfast.store import ExperimentStore as open  # noqa: N813
    from holdfast.summary import ArtifactInfo, InputInfo, MetricStats, RunSummary
    from holdfast.timestamp import Timestamp
    from holdfast.together import Aligned, SeriesMap

# Name -> module: each is imported when it is first asked for, so that `import holdfast` is quick.
_WHERE = {
    "Alias": "ops.aliases",
    "Aligned": "together",
    "ArtifactInfo": "summary",
    "ArtifactRecord": "records",
    "Checked": "lockfile",
    "Collected": "ops.gc",
    "Digest": "digest",
    "ExperimentRecord": "records",
    "ExperimentStorage": "storage",
    "ExperimentStore": "store",
    "Finding": "ops.findings",
    "GcPlan": "ops.gc",
    "HoldfastError": "errors",
    "InputInfo": "summary",
    "Lineage": "ops.ancestry",
    "LockFile": "lockfile",
    "Locked": "format.lockfile",
    "MetricRecord": "records",
    "MetricStats": "summary",
    "Policy": "ops.policy",
    "Removal": "ops.gc",
    "Repacked": "ops.repack",
    "Repaired": "ops.repair",
    "Report": "ops.fsck",
    "Run": "run",
    "RunRecord": "records",
    "RunStatus": "records",
    "RunSummary": "summary",
    "Series": "series",
    "SeriesMap": "together",
    "SqlRows": "sql",
    "StoreStorage": "storage",
    "StoredArtifact": "ops.handle",
    "Tail": "ops.tail",
    "Taken": "ops.snapshots",
    "TailRecord": "ops.look",
    "TensorChange": "ops.diff",
    "TensorInfo": "ops.tensors",
    "TensorSlice": "ops.tensors",
    "Tensors": "ops.tensors",
    "Timestamp": "timestamp",
    "Usage": "ops.usage",
    "UsageRow": "ops.usage",
    "Unsent": "ops.publish",
    "Version": "ops.versions",
    "fsck": "checking",
    "repair": "checking",
}

__all__ = [
    "Alias",
    "Aligned",
    "ArtifactInfo",
    "ArtifactRecord",
    "Checked",
    "Collected",
    "Digest",
    "ExperimentRecord",
    "ExperimentStorage",
    "ExperimentStore",
    "Finding",
    "GcPlan",
    "HoldfastError",
    "InputInfo",
    "Lineage",
    "LockFile",
    "Locked",
    "MetricRecord",
    "MetricStats",
    "Policy",
    "Removal",
    "Repacked",
    "Repaired",
    "Report",
    "Run",
    "RunRecord",
    "RunStatus",
    "RunSummary",
    "Series",
    "SeriesMap",
    "SqlRows",
    "StoreStorage",
    "StoredArtifact",
    "Tail",
    "TailRecord",
    "Taken",
    "TensorChange",
    "TensorInfo",
    "TensorSlice",
    "Tensors",
    "Timestamp",
    "Unsent",
    "Usage",
    "UsageRow",
    "Version",
    "fsck",
    "open",
    "repair",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "open":
        return import_module("holdfast.store").ExperimentStore
    if name in _WHERE:
        return getattr(import_module(f"holdfast.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
