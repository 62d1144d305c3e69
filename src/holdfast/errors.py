"""The errors of Holdfast: one base class, and a leaf only where a handler would act differently.

Every error has a stable `code` for programs, one sentence for people, and its facts as attributes
(`error.details` holds them all). All of them pickle, so they cross process pools unharmed.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """Base of every error that Holdfast raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are not real attributes.
        details = self.__dict__.get("details", {})
        if name in details:
            return details[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(cls: type[HoldfastError], message: str, details: dict[str, Any]) -> HoldfastError:
    return cls(message, **details)


class InvalidValue(HoldfastError, ValueError):
    """A value that the caller handed in cannot be stored: a name, a metric, a config, a step."""

    code = "invalid_value"


class QueryError(InvalidValue):
    """A query has a mistake; `column` (0-based) points at it."""

    code = "query_error"


class Ambiguous(InvalidValue):
    """An address could be several things; `candidates` are addresses that say which."""

    code = "ambiguous"


class InvalidState(HoldfastError):
    """The operation does not fit the state of the run, for example finishing it twice."""

    code = "invalid_state"


class RunBusy(InvalidState):
    """Another live process writes this run; `writer` names it."""

    code = "run_busy"


class AliasMoved(InvalidState):
    """An alias does not name what it was expected to (`expected`, `found`); it was not moved."""

    code = "alias_moved"


class NotFound(HoldfastError, LookupError):
    """Something that was named is not in the store."""

    code = "not_found"


class ExperimentNotFound(NotFound):
    code = "experiment_not_found"


class RunNotFound(NotFound):
    code = "run_not_found"


class ArtifactNotFound(NotFound):
    code = "artifact_not_found"


class AliasNotFound(NotFound):
    code = "alias_not_found"


class SnapshotNotFound(NotFound):
    code = "snapshot_not_found"


class MetricNotFound(NotFound):
    code = "metric_not_found"


class NotSynced(NotFound):
    """The file was left out when its run was synced into this store; `source` says where it is."""

    code = "not_synced"


class NotAStore(HoldfastError):
    """The place is not a store, or a store cannot be made there."""

    code = "not_a_store"


class UnsupportedFormat(HoldfastError):
    """Written by a newer Holdfast: this version refuses to guess."""

    code = "unsupported_format"


class Corrupt(HoldfastError):
    """Stored bytes are damaged; `place` names the file."""

    code = "corrupt"


class DigestMismatch(Corrupt):
    """Bytes do not hash to the digest that names them (`expected`, `found`)."""

    code = "digest_mismatch"


class BadSignature(Corrupt):
    """A signature is there, and whoever it names did not make it (`snapshot`)."""

    code = "bad_signature"


class BackendError(HoldfastError):
    """The storage under the store failed."""

    code = "backend_error"


class NameNotFound(BackendError):
    """The backend has nothing under that name; stores turn this into a NotFound or Corrupt."""

    code = "name_not_found"


class NameExists(BackendError):
    """Create-if-absent found the name taken."""

    code = "name_exists"


class NameRetired(BackendError):
    """What was stored under that name was collected: the bytes need a name that is new."""

    code = "name_retired"


class AccessDenied(BackendError):
    code = "access_denied"


class StorageFull(BackendError):
    code = "storage_full"


class Unavailable(BackendError):
    """An object store did not answer, or says that it is overloaded: trying again later may do."""

    code = "unavailable"


class ReadOnly(BackendError):
    """The store was opened read-only."""

    code = "read_only"


class Exists(HoldfastError):
    """Something different is already there and `overwrite` was not asked for."""

    code = "exists"


class MissingDependency(HoldfastError, ImportError):
    """An optional library is not installed here (`missing`); the message says how to install it."""

    code = "missing_dependency"
