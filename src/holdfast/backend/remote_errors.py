"""What went wrong at an object store, told in our errors: the one place that knows every client's.

A client's exception is read for three facts: the HTTP status, the server's own code, and whether an
answer came at all. Its text is not passed on, since addresses and headers may hold credentials.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.errors import (
    AccessDenied,
    BackendError,
    HoldfastError,
    NameExists,
    NameNotFound,
    NotAStore,
    StorageFull,
    Unavailable,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "NoSuchContainer"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
}
_TAKEN = {"BlobAlreadyExists", "PreconditionFailed", "ConditionNotMet", "conditionNotMet"}
_FULL = {"QuotaExceeded", "StorageFull", "InsufficientStorage"}
_BUSY = {"SlowDown", "ServerBusy", "RequestTimeout", "ConditionalRequestConflict", "InternalError"}
_BUSY_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
_LIBRARIES = {"aiohttp", "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "obstore"}
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialError"}
_NO_KEYS |= {"UnauthenticatedError", "DefaultCredentialsError", "ClientAuthenticationError"}


class PastEnd(BackendError):
    """A range begins behind the last byte; never leaves the backend."""

    code = "past_end"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a client's exception says."""

    status: int | None
    code: str
    kinds: frozenset[str]


def facts_of(error: BaseException, outer: BaseException | None = None) -> Facts:
    """Read an exception and those that led to it, but not `outer`, which was being handled already."""
    status, code, kinds = None, "", set()
    for item in _chain(error, outer):
        kinds.add(type(item).__name__)
        status = status or _status(item)
        code = code or _code(item)
    return Facts(status, code, frozenset(kinds))


def _chain(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    item: BaseException | None = error
    while item is not None and item is not outer and id(item) not in seen:
        seen.add(id(item))
        yield item
        item = item.__cause__ or item.__context__


def _status(error: BaseException) -> int | None:
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    if type(error).__module__ == "aiohttp.http_exceptions":
        return None  # it calls an answer that broke off 400
    for name in ("status_code", "status", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    text = _STATUS.search(str(error))
    return int(text[1]) if text else None


def _code(error: BaseException) -> str:
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code", ""))
    named = getattr(error, "error_code", None)
    if named:
        return str(getattr(named, "value", named))
    text = _CODE.search(str(error))
    return text[1] if text else ""


def spool_error(error: OSError) -> HoldfastError:
    """The error for a temporary file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            "the disk for temporary files is full: free space, or let TMPDIR name another directory"
        )
    return BackendError(f"a temporary file could not be written: {error.strerror}")


def explain(
    error: BaseException, name: str, place: str, outer: BaseException | None = None
) -> HoldfastError:
    """Our error for what a client raised about `name`; `place` is the bucket, for people, and
    `outer` the exception that was being handled when the client was called."""
    if isinstance(error, HoldfastError):
        return error
    known = facts_of(error, outer)
    return _by_code(known, name, place) or _by_kind(error, known, name, place)


def _by_code(known: Facts, name: str, place: str) -> HoldfastError | None:
    if known.code in _BUCKET:
        return NotAStore(f"there is no bucket at {place}: create it first", url=place)
    if known.code in _CLOCK:
        return _denied(
            name, place, "this machine's clock differs too much from the server's: set it"
        )
    if known.code in _KEYS:
        return _denied(name, place, f"the credentials were refused ({known.code}): check them")
    if known.code in _FULL:
        return StorageFull(f"{place} is full: {name} was not written; free space", name=name)
    if known.code in _TAKEN:
        return NameExists(f"{place}: {name} is taken already", name=name)
    if known.code in _BUSY:
        return _unavailable(name, place, known)
    return None


def _by_kind(error: BaseException, known: Facts, name: str, place: str) -> HoldfastError:
    number = getattr(error, "errno", None)
    if known.status == 416 or "InvalidRange" in known.code:
        return PastEnd(f"{place}: {name} is shorter", name=name)
    if (
        known.status == 412
        or isinstance(error, FileExistsError)
        or "AlreadyExistsError" in known.kinds
    ):
        return NameExists(f"{place}: {name} is taken already", name=name)
    if known.status == 404 or isinstance(error, FileNotFoundError):
        return NameNotFound(f"{place}: there is no {name}", name=name)
    if known.status in (401, 403) or isinstance(error, PermissionError) or known.kinds & _NO_KEYS:
        return _denied(name, place, "access was refused: check the credentials and their rights")
    if known.status == 507 or number == errno.ENOSPC:
        return StorageFull(f"{place} is full: {name} was not written; free space", name=name)
    if known.status in _BUSY_STATUS or (known.status is None and _is_network(error)):
        return _unavailable(name, place, known)
    return BackendError(f"{place}: {name}: {_reason(known)}", name=name, status=known.status)


def _is_network(error: BaseException) -> bool:
    """True if a connection or a timeout is at fault rather than a call that makes no sense."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, (OSError, TimeoutError)) or library in _LIBRARIES


def _denied(name: str, place: str, reason: str) -> AccessDenied:
    return AccessDenied(f"no access to {name or 'the store'} at {place}: {reason}", name=name)


def _unavailable(name: str, place: str, known: Facts) -> Unavailable:
    return Unavailable(
        f"{place} did not do what was asked of {name or 'it'}: {_reason(known)}; try again",
        name=name,
        status=known.status,
        answered=known.status is not None,
    )


def _reason(known: Facts) -> str:
    if known.status is None:
        return "no answer came" if not known.kinds else f"no answer came ({min(known.kinds)})"
    code = f" {known.code}" if _WORD.match(known.code) else ""
    return f"it answered {known.status}{code}"
