"""Signed snapshots: keys as people have them, and every way to cheat is named."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import golden
import holdfast
from holdfast.cli import main
from holdfast.digest import Digest
from holdfast.errors import BadSignature, Corrupt, InvalidValue, NotFound
from holdfast.format import layout, signature
from holdfast.keyfiles import PublicKey, fingerprint, load_keys, load_signer

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPENSSH = serialization.PrivateFormat.OpenSSH
NONE = serialization.NoEncryption()


class Owner:
    """Somebody with a key, in every form of file."""

    def __init__(self, place: Path, name: str) -> None:
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.raw = self.key.public_key().public_bytes_raw()
        self.place, self.name = place, name

    def private(self, form: str = "pem", passphrase: bytes | None = None) -> Path:
        how = serialization.BestAvailableEncryption(passphrase) if passphrase else NONE
        data = self.key.private_bytes(PEM, PKCS8 if form == "pem" else OPENSSH, how)
        return self._write(f"{self.name}.{form}", data)

    def public(self, form: str = "ssh") -> Path:
        public = self.key.public_key()
        if form == "pem":
            data = public.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        else:
            ssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            data = public.public_bytes(*ssh) + b" " + self.name.encode()
        return self._write(f"{self.name}.{form}.pub", data)

    def _write(self, name: str, data: bytes) -> Path:
        (self.place / name).write_bytes(data)
        return self.place / name


@pytest.fixture
def ada(tmp_path: Path) -> Owner:
    return Owner(tmp_path, "ada")


@pytest.fixture
def eve(tmp_path: Path) -> Owner:
    return Owner(tmp_path, "eve")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[holdfast.ExperimentStore]:
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            run.log({"x": 1.0})
            run.log_artifact(b"model", "model")
        yield store


def snapshot(store: holdfast.ExperimentStore, name: str = "paper") -> Digest:
    return store.snapshot(name).digest


@pytest.mark.parametrize("private", ["pem", "ssh"])
@pytest.mark.parametrize("public", ["pem", "ssh"])
def test_a_signature_names_its_signer(
    lab: holdfast.ExperimentStore, ada: Owner, private: str, public: str
) -> None:
    digest = str(snapshot(lab))
    signed = lab.sign(digest, ada.private(private))
    found = lab.check_signature("paper", ada.public(public))
    assert (found.snapshot, found.key.raw, found.at) == (Digest.parse(digest), ada.raw, signed.at)
    assert ("ada" in str(found.key)) and fingerprint(ada.raw) in str(found.key)
    assert lab.sign(digest, ada.private(private)).at == signed.at  # the first one stays
    assert lab.compare_snapshot(digest) == []
    assert lab.fsck().findings == []


def test_who_did_not_sign_is_told_who_did(
    lab: holdfast.ExperimentStore, ada: Owner, eve: Owner
) -> None:
    digest = str(snapshot(lab))
    with pytest.raises(NotFound, match="signed by nobody"):
        lab.check_signature(digest, ada.public())
    lab.sign(digest, eve.private())
    with pytest.raises(NotFound) as caught:
        lab.check_signature(digest, ada.public())
    assert fingerprint(eve.raw) in caught.value.message
    both = ada.place / "allowed_signers"
    both.write_bytes(
        b"# who may\nada@lab "
        + ada.public().read_bytes()
        + b"\nssh-rsa AAAA no\n"
        + eve.public().read_bytes()
    )
    assert [key.raw for key in load_keys(both)] == [ada.raw, eve.raw]
    assert lab.check_signature(digest, both).key.name == "eve"


def test_a_signature_of_somebody_else_under_our_key_is_refused(
    lab: holdfast.ExperimentStore, ada: Owner, eve: Owner, tmp_path: Path
) -> None:
    digest = snapshot(lab)
    lab.sign(str(digest), eve.private())
    folder = tmp_path / "lab" / layout.signatures(digest)
    forged = (folder / eve.raw.hex()).read_bytes()
    (folder / ada.raw.hex()).write_bytes(forged)
    with pytest.raises(BadSignature, match="did not sign"):
        lab.check_signature(str(digest), ada.public())
    mine = signature.decode(forged, place="f")
    claimed = signature.Signature(digest, mine.at, ada.raw, mine.signature)
    (folder / ada.raw.hex()).write_bytes(signature.encode(claimed))
    with pytest.raises(BadSignature, match="did not sign"):
        lab.check_signature(str(digest), ada.public())


def test_a_signature_for_another_snapshot_or_time_is_refused(
    lab: holdfast.ExperimentStore, ada: Owner, tmp_path: Path
) -> None:
    first = snapshot(lab, "first")
    lab.sign(str(first), ada.private())
    lab.start_run("e", capture=False).finish()
    second = snapshot(lab)
    place = tmp_path / "lab" / layout.signatures(first) / ada.raw.hex()
    other = tmp_path / "lab" / layout.signatures(second) / ada.raw.hex()
    other.parent.mkdir()
    other.write_bytes(place.read_bytes())
    with pytest.raises(BadSignature):
        lab.check_signature(str(second), ada.public())
    real = signature.decode(place.read_bytes(), place="f")
    for changed in (
        signature.Signature(second, real.at, real.key, real.signature),
        signature.Signature(second, real.at + 1, real.key, real.signature),
    ):
        other.write_bytes(signature.encode(changed))
        with pytest.raises(BadSignature):
            lab.check_signature(str(second), ada.public())


def test_a_store_that_was_changed_after_it_was_signed_is_not_as_signed(
    lab: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    digest = str(snapshot(lab))
    lab.start_run("e", run_id="later", capture=False).finish()
    lab.resume("run").finish()
    assert lab.compare_snapshot(digest) == []  # what was added since is no change
    place = tmp_path / "lab" / "runs/run/manifest/00000002"
    whole = place.read_bytes()
    forged = lab.repository.manifest("run").read(2)[0]
    from holdfast.format import entry

    state = {**forged.body, "tags": {"best": True}}
    fields = {name: getattr(forged, name) for name in ("number", "prev", "nonce", "at", "full")}
    place.write_bytes(entry.encode(entry.Entry(**fields, body=state)))
    assert [one.code for one in lab.compare_snapshot(digest)] == ["not_as_signed"]
    place.unlink()
    assert "missing" in lab.compare_snapshot(digest)[0].message
    place.write_bytes(whole)
    blob = tmp_path / "lab" / layout.blob(Digest.parse(digest))
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt):
        lab.compare_snapshot(digest)


def test_keys_that_are_none_are_refused_in_words(ada: Owner, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("ssh-ed25519 !!! broken\n")
    for load in (load_keys, load_signer):
        with pytest.raises(InvalidValue, match="holds no"):
            load(nonsense)
    with pytest.raises(InvalidValue, match="holds no public"):
        load_keys(ada.private())
    with pytest.raises(InvalidValue, match="too long"):
        nonsense.write_bytes(bytes(2 << 20))
        load_keys(nonsense)
    locked = ada.private("ssh", b"sesame") if _has_bcrypt() else ada.private("pem", b"sesame")
    with pytest.raises(InvalidValue, match="has a passphrase"):
        load_signer(locked)
    with pytest.raises(InvalidValue, match="does not open"):
        load_signer(locked, lambda: "wrong")
    assert load_signer(locked, lambda: "sesame").public == ada.raw


def _has_bcrypt() -> bool:
    try:
        import bcrypt  # noqa: F401
    except ImportError:
        return False
    return True


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    path = tmp_path / "ec.pem"
    path.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, NONE))
    with pytest.raises(InvalidValue, match="no Ed25519 key"):
        load_signer(path)


def test_the_command_signs_and_verifies(
    lab: holdfast.ExperimentStore,
    ada: Owner,
    eve: Owner,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    digest, url = str(snapshot(lab)), str(tmp_path / "lab")
    assert main(["sign", digest, "--key", str(ada.private()), "-s", url]) == 0
    check = ["verify", "-s", url, "--snapshot", digest, "--key"]
    assert main([*check, str(ada.public())]) == 0
    assert "was signed by ada" in capfd.readouterr().err
    assert main([*check, str(eve.public())]) == 3
    assert "not by eve" in capfd.readouterr().err
    assert main(["verify", "-s", url, "--key", "k"]) == 2


def test_the_file_is_as_the_page_says_and_openssl_agrees(tmp_path: Path) -> None:
    data = golden.read("signature")
    found = signature.decode(data, place="f")
    assert signature.encode(found) == data
    statement = b"holdfast signature 1\n" + found.document.raw + found.at.to_bytes(8, "big")
    assert PublicKey(found.key, "k").is_right(found.signature, statement)
    public = ed25519.Ed25519PublicKey.from_public_bytes(found.key)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pem").write_bytes(public.public_bytes(PEM, form))
    (tmp_path / "statement").write_bytes(statement)
    (tmp_path / "signature").write_bytes(found.signature)
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key.pem",
        "-rawin",
        "-in",
        "statement",
    ]
    done = subprocess.run(
        [*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_made_up_body_is_refused() -> None:
    from holdfast.format import frame, packing

    good = {"document": bytes(32), "at": 1, "key": bytes(32), "signature": bytes(64)}
    for name, value in [
        ("document", b"x"),
        ("key", "k" * 32),
        ("at", -1),
        ("at", True),
        ("signature", None),
    ]:
        with pytest.raises(Corrupt, match="no signature"):
            signature.decode(frame.wrap(b"V", 1, packing.pack({**good, name: value})), place="f")
    with pytest.raises(Corrupt):
        signature.decode(frame.wrap(b"V", 1, packing.pack([])), place="f")


def test_fsck_finds_any_flipped_bit_of_a_signature_and_one_that_was_moved(
    lab: holdfast.ExperimentStore, ada: Owner, tmp_path: Path
) -> None:
    digest = snapshot(lab)
    lab.sign(str(digest), ada.private())
    folder = tmp_path / "lab" / layout.signatures(digest)
    place = folder / ada.raw.hex()
    whole = place.read_bytes()
    assert lab.fsck().findings == []
    for at in range(0, len(whole), 7):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert [place.name in one.place for one in lab.fsck().findings] == [True]
    place.write_bytes(whole)
    place.rename(folder / bytes(32).hex())
    assert "moved" in lab.fsck().findings[0].message
