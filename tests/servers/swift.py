"""OpenStack Swift with its S3 interface: the object server that passes a probe in sequence and fails
a race, since it looks whether a name is there before it writes, not while it does."""

from __future__ import annotations

import getpass

from servers.base import Server, free_port

_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {proxy}
workers = 2
swift_dir = {home}
user = {user}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors cache s3api tempauth listing_formats copy dlo slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:dlo]
use = egg:swift#dlo
[filter:slo]
use = egg:swift#slo
"""
_PART = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 1
devices = {home}/devices
mount_check = false
swift_dir = {home}
user = {user}
log_level = ERROR
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_HASHES = """
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
"""
KEY, SECRET = "test:tester", "testing"


class Swift(Server):
    needs = ("swift-proxy-server", "swift-ring-builder", "memcached")

    def launch(self) -> None:
        ports = {
            kind: free_port() for kind in ("proxy", "memcached", "account", "container", "object")
        }
        (self.home / "devices" / "d1").mkdir(parents=True)
        (self.home / "swift.conf").write_text(_HASHES)
        (self.home / "proxy.conf").write_text(
            _PROXY.format(home=self.home, user=getpass.getuser(), **ports)
        )
        self.spawn("memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(ports["memcached"]))
        for kind in ("account", "container", "object"):
            self._start_part(kind, ports[kind])
        self.spawn("swift-proxy-server", str(self.home / "proxy.conf"))
        self.url = f"http://127.0.0.1:{ports['proxy']}"
        self.wait(self.url)

    def _start_part(self, kind: str, port: int) -> None:
        (self.home / f"{kind}.conf").write_text(
            _PART.format(home=self.home, user=getpass.getuser(), kind=kind, port=port)
        )
        builder = f"{kind}.builder"
        self.call("swift-ring-builder", builder, "create", "4", "1", "0")
        self.call("swift-ring-builder", builder, "add", f"r1z1-127.0.0.1:{port}/d1", "1")
        self.call("swift-ring-builder", builder, "rebalance")
        self.spawn(f"swift-{kind}-server", str(self.home / f"{kind}.conf"))
