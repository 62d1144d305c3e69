"""Ed25519 keys as people have them: PEM (PKCS8, SubjectPublicKeyInfo) and those of OpenSSH."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import InvalidValue, MissingDependency

_MOST_BYTES = 1 << 20  # of a key file
Passphrase = Callable[[], str]  # asked only for a key that has one


@dataclass(frozen=True, slots=True)
class PublicKey:
    """32 raw bytes, and what the file calls it: an ssh comment, or the file's own name."""

    raw: bytes
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({fingerprint(self.raw)})"

    def is_right(self, signature: bytes, statement: bytes) -> bool:
        """Did the owner of this key sign the statement?"""
        _, ed25519, exceptions = _cryptography()
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, statement)
        except (exceptions.InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that is open."""

    public: bytes
    sign: Callable[[bytes], bytes]


def fingerprint(raw: bytes) -> str:
    """As `ssh-keygen -l` shows it: `SHA256:…` of the key in ssh's own encoding."""
    import base64
    import hashlib

    blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + raw
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def load_signer(path: str | os.PathLike[str], passphrase: Passphrase | None = None) -> Signer:
    """A private key: PEM PKCS8 or OpenSSH. Raises InvalidValue, MissingDependency, OSError."""
    serialization, ed25519, _ = _cryptography()
    data = _read(path)
    is_ssh = b"OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    key = _opened(load, data, path, passphrase)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidValue(
            f"{path} is no Ed25519 key: `ssh-keygen -t ed25519` makes one", path=str(path)
        )
    return Signer(key.public_key().public_bytes_raw(), key.sign)


def _opened(load: Any, data: bytes, path: Any, passphrase: Passphrase | None) -> Any:
    try:
        return load(data, None)
    except TypeError:  # it has a passphrase
        if passphrase is None:
            raise InvalidValue(
                f"{path} has a passphrase, and none was given", path=str(path)
            ) from None
    except Exception as error:
        raise _no_key(path, "private") from error
    try:
        return load(data, passphrase().encode())
    except Exception as error:
        raise InvalidValue(f"{path} does not open with that passphrase", path=str(path)) from error


def load_keys(path: str | os.PathLike[str]) -> list[PublicKey]:
    """Public keys: one in PEM, or any number in lines as `id_ed25519.pub`, `authorized_keys` and ssh's
    `allowed_signers` have them; lines with keys of other kinds are passed over.

    Raises InvalidValue when there is none, MissingDependency, OSError.
    """
    serialization, ed25519, _ = _cryptography()
    data = _read(path)
    if b"-----BEGIN" in data:
        with suppress(Exception):
            key = serialization.load_pem_public_key(data)
            if isinstance(key, ed25519.Ed25519PublicKey):
                return [PublicKey(key.public_bytes_raw(), Path(path).name)]
        raise _no_key(path, "public")
    found = list(_ssh_keys(data, Path(path).name, serialization))
    if not found:
        raise _no_key(path, "public")
    return found


def _ssh_keys(data: bytes, name: str, serialization: Any) -> Iterator[PublicKey]:
    for line in data.decode("utf-8", "replace").splitlines():
        before, kind, rest = line.partition("ssh-ed25519 ")
        if not kind or before.lstrip().startswith("#"):
            continue
        blob, _, comment = rest.strip().partition(" ")
        with suppress(Exception):
            key = serialization.load_ssh_public_key(f"ssh-ed25519 {blob}".encode())
            yield PublicKey(key.public_bytes_raw(), (comment or before).strip() or name)


def _no_key(path: Any, kind: str) -> InvalidValue:
    return InvalidValue(
        f"{path} holds no {kind} Ed25519 key: give a file in PEM or of ssh-keygen -t ed25519",
        path=str(path),
    )


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InvalidValue(f"{path} is too long for a key file", path=str(path))
    return data


def _cryptography() -> tuple[Any, Any, Any]:
    """(serialization, ed25519, exceptions) of that library, which is imported when it is needed."""
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependency(
            "signatures need the library cryptography: pip install 'holdfast[sign]'",
            missing="cryptography",
        ) from error
    return serialization, ed25519, exceptions
