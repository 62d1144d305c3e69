"""The methods of `ExperimentStore` for signed snapshots."""

from __future__ import annotations

import os

from holdfast.keyfiles import Passphrase, load_keys, load_signer
from holdfast.ops import signatures, snapshots
from holdfast.ops.signatures import Signed
from holdfast.ops.verify import Finding
from holdfast.repository import Repository


class SigningMethods:
    """Mixed into ExperimentStore."""

    repository: Repository

    def sign(
        self, snapshot: str, key: str | os.PathLike[str], passphrase: Passphrase | None = None
    ) -> Signed:
        """Sign a snapshot, by its name or `sha256:…`, with the private Ed25519 key in the file `key`: PEM
        PKCS8, or of ssh-keygen. `passphrase` is asked when the key has one. The signature lies beside the
        snapshot.

        Raises NotFound, InvalidValue, MissingDependency, Corrupt.
        """
        return signatures.sign(self.repository, snapshot, load_signer(key, passphrase))

    def check_signature(self, snapshot: str, keys: str | os.PathLike[str]) -> Signed:
        """Who signed a snapshot, of the public keys in the file `keys`: PEM, or lines as ssh has them.

        Raises NotFound when none of them did, BadSignature when the signature is no good, Corrupt.
        """
        digest = snapshots.find(self.repository, snapshot)
        return signatures.check(self.repository, digest, load_keys(keys))

    def compare_snapshot(self, snapshot: str) -> list[Finding]:
        """Where the store is not what a snapshot says; what was added since is none of it. `verify` then
        reads the bytes that the entries name. Raises NotFound, Corrupt."""
        return signatures.compare(self.repository, snapshots.find(self.repository, snapshot))
