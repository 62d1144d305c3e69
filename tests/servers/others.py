"""Servers of other makers, each for what only it does."""

from __future__ import annotations

import sys

from servers.base import ROOT, Server, free_port

AZURE_ACCOUNT = "devstoreaccount1"  # published by the makers of the emulator, as is the key
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class Moto(Server):
    """An S3 that keeps conditions on multipart uploads too, as AWS does."""

    needs = ("moto_server",)

    def launch(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.spawn("moto_server", "-H", "127.0.0.1", "-p", str(port))
        self.wait(self.url)


class Rclone(Server):
    """An S3 that ignores `If-None-Match`."""

    needs = ("rclone",)

    def launch(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (self.home / "data").mkdir()
        keys = ("--auth-key", "test,testtest")
        self.spawn("rclone", "serve", "s3", "data", "--addr", f"127.0.0.1:{port}", *keys)
        self.wait(self.url)


class Azurite(Server):
    """Azure's blob storage."""

    needs = ("azurite-blob",)

    def launch(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        place = ("--blobHost", "127.0.0.1", "--blobPort", str(port))
        self.spawn(
            "azurite-blob", "--silent", "--skipApiVersionCheck", "--inMemoryPersistence", *place
        )
        self.wait(self.url)


class GoogleEmulator(Server):
    """Our own emulator of Google's JSON interface: see gcs.py."""

    def launch(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.spawn(sys.executable, str(ROOT / "tests" / "servers" / "gcs.py"), str(port))
        self.wait(self.url)
