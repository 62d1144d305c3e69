"""Ceph's S3 gateways with one monitor and one store, from Debian's packages.

It ignores conditions when a multipart upload is completed, and in a versioned bucket every creator of
a name wins: the reason why creates are single puts, and why a new store's bucket is probed.
"""

from __future__ import annotations

import time
import uuid

from servers.base import PATIENCE_SECONDS, Server, free_port

KEY, SECRET = "test", "testtest"  # the gateway's only user
_CONFIGURATION = """
[global]
fsid = {fsid}
mon initial members = a
mon host = v1:127.0.0.1:{monitor}
ms bind msgr2 = false
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
paxos propose interval = 0.02
paxos min wait = 0.01
mon data avail crit = 1
mon data avail warn = 1
run dir = {home}
log file = {home}/$name.log
admin socket = {home}/$name.asok
[mon.a]
mon data = {home}/mon
[osd.0]
osd data = {home}/osd
osd objectstore = {store}
memstore device bytes = 8G
bluestore block size = 21474836480
bluestore block create = true
bluestore block db create = false
bluestore block wal create = false
osd memory target = 1073741824
osd op num shards = 2
osd class update on start = false
osd crush update on start = false
osd min pg log entries = 100
"""
_GATEWAY = """
[client.{name}]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {home}/{name}
rgw enable usage log = false
rgw thread pool size = 64
rgw dynamic resharding = false
"""


class Ceph(Server):
    """In memory, with one gateway."""

    needs = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
    store = "memstore"
    gateways = 1

    def launch(self) -> None:
        fsid, monitor = str(uuid.uuid4()), free_port()
        ports = {f"rgw{number}": free_port() for number in range(self.gateways)}
        self._configuration = str(self.home / "ceph.conf")
        for folder in ("mon", "osd", *ports):
            (self.home / folder).mkdir()
        about = {"fsid": fsid, "home": self.home, "monitor": monitor, "store": self.store}
        parts = [_GATEWAY.format(name=name, port=ports[name], home=self.home) for name in ports]
        (self.home / "ceph.conf").write_text(_CONFIGURATION.format(**about) + "".join(parts))
        self._start_monitor(fsid, f"[v1:127.0.0.1:{monitor}/0]")
        self._start_disk()
        self.urls = [f"http://127.0.0.1:{port}" for port in ports.values()]
        self.url = self.urls[0]
        for name, url in zip(ports, self.urls, strict=True):
            # One after the other: the first one makes the pools.
            self.spawn("radosgw", *self._about("-n", f"client.{name}", "-f"))
            self.wait(url)
        self._add_user()

    def _about(self, *arguments: str) -> list[str]:
        return ["-c", self._configuration, *arguments]

    def _start_monitor(self, fsid: str, address: str) -> None:
        map_file = str(self.home / "monmap")
        self.call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, map_file)
        self.call("ceph-mon", *self._about("--mkfs", "-i", "a", "--monmap", map_file))
        self.spawn("ceph-mon", *self._about("-i", "a", "-f"))

    def _start_disk(self) -> None:
        self._until_accepted("osd", "create")
        self.call("ceph-osd", *self._about("-i", "0", "--mkfs", "--mkkey", "--no-mon-config"))
        where = ("root=default", "host=localhost")
        self._until_accepted("osd", "crush", "add", "osd.0", "1", *where)
        self.spawn("ceph-osd", *self._about("-i", "0", "-f"))

    def _until_accepted(self, *command: str) -> None:
        """A monitor that has just begun refuses commands until it knows its own cluster."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.call("ceph", *self._about(*command))
                return
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _add_user(self) -> None:
        user = ("user", "create", "--uid=test", "--display-name=test")
        keys = (f"--access-key={KEY}", f"--secret-key={SECRET}")
        self.call("radosgw-admin", *self._about("-n", "client.rgw0", *user, *keys))


class CephOnDisk(Ceph):
    """With its real store, bluestore, and two gateways that know of each other's work only through it."""

    store = "bluestore"
    gateways = 2
