"""OpenStack Swift with its S3 interface on the loopback interface: a real object store for tests and trials, without a cloud.

``python -m cluster.object_store.swift --folder DIR`` runs until Ctrl-C. It needs Debian's packages swift, swift-proxy, swift-account,
swift-container and swift-object, and no rights beyond a folder on a file system with extended attributes. One replica, one disk, fresh
credentials: nothing here is for production.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster.loopback import free_port, stop_event
from sc3d.errors import PreflightError

PACKAGES = ("swift", "swift-proxy", "swift-account", "swift-container", "swift-object", "memcached")
_STORES = ("account", "container", "object")
_SERVERS = (*_STORES, "cache", "proxy")
_ACCESS_KEY = "sc3d:local"
_REGION = "us-east-1"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0

# Swift's programs read swift.conf from /etc/swift and have no option for another place.
_LAUNCHER = """
import runpy, sys
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What three calls of swift-ring-builder a ring do, in one process: which port and folder an object of a given hash is at.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(("account", "container", "object"), sys.argv[2:]):
    builder = RingBuilder(4, 1, 1)
    address = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, "device": "disk", **address})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""

_SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = {prefix}
swift_hash_path_suffix = {suffix}
[storage-policy:0]
name = one
default = yes
"""

# container_update_timeout: a listing shows every object that was written, as S3's does; with Swift's 1 s a busy machine's listing lags.
_STORE_CONF = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
workers = 0
fallocate_reserve = 0
container_update_timeout = 60
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY_CONF = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
workers = 0
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 60
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache_port}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_{user_key} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
"""


def missing_programs() -> list[str]:
    """Swift's programs that are not installed here; empty if :class:`SwiftServer` can run."""
    programs = ["memcached", "swift-ring-builder", "swift-proxy-server", *(f"swift-{kind}-server" for kind in _STORES)]
    return [name for name in programs if shutil.which(name) is None]


class SwiftServer:
    """A Swift of one node for the time of a ``with`` block, or between :meth:`start` and :meth:`stop`.

    It may be started again after it was stopped, and has then kept its port, its credentials and what was stored: a store that was
    away for a while.

    Args:
        folder: where its configuration, logs and objects go; made if it is not there.
        port: of the S3 interface; none: a free one.

    Raises:
        PreflightError: the packages are not installed, or the file system has no extended attributes.
    """

    def __init__(self, folder: str | Path, port: int | None = None) -> None:
        missing = missing_programs()
        if missing:
            raise PreflightError(f"{', '.join(missing)} not found; as root: apt-get install {' '.join(PACKAGES)}")
        self._folder = Path(folder).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        _check_attributes(self._folder)
        self._ports = {server: free_port() for server in _SERVERS}
        self._ports["proxy"] = port or self._ports["proxy"]
        self._secret = secrets.token_hex(16)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._configure()

    def __enter__(self) -> SwiftServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """URL of the S3 interface."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def environment(self) -> dict[str, str]:
        """What an S3 client's environment needs. The last two: today's clients send checksums in a form that this Swift does not take."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            PreflightError: it does not come up; the message has the end of its log.
        """
        try:
            self._launch_all()
        except BaseException:
            self.stop()
            raise

    def _launch_all(self) -> None:
        cache = ["memcached", "-l", "127.0.0.1", "-p", str(self._ports["cache"]), "-u", _user(), "-m", "16"]
        self._launch("memcached", cache)
        for kind in (*_STORES, "proxy"):
            program = f"swift-{kind}-server"
            self._launch(program, self._command(program, [f"{self._folder}/{kind}-server.conf", "--verbose"]))
        deadline = time.monotonic() + _START_SECONDS
        for port in self._ports.values():
            while not _answers(port):
                if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes):
                    raise PreflightError(f"Swift did not start:\n{self._last_words()}")
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it; what was stored stays. Calling it again does nothing."""
        processes, self._processes = self._processes, []
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in processes:
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def _configure(self) -> None:
        values = {"folder": self._folder, "user": _user(), "region": _REGION, "secret": self._secret}
        values["cache_port"] = self._ports["cache"]
        values["user_key"] = _ACCESS_KEY.replace(":", "_")
        self._write("swift.conf", _SWIFT_CONF.format(prefix=secrets.token_hex(8), suffix=secrets.token_hex(8)))
        self._write("proxy-server.conf", _PROXY_CONF.format(port=self._ports["proxy"], **values))
        (self._folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
        for kind in _STORES:
            self._write(f"{kind}-server.conf", _STORE_CONF.format(kind=kind, port=self._ports[kind], **values))
        ports = [str(self._ports[kind]) for kind in _STORES]
        interpreter = self._command("swift-ring-builder", [])[0]
        command = [interpreter, "-c", _RINGS, str(self._folder), *ports]
        done = subprocess.run(command, env=_clean_environment(), capture_output=True, text=True)
        if done.returncode:
            raise PreflightError(f"Swift's rings could not be built in {self._folder}: {done.stderr}")

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.touch(0o600)
        path.write_text(text)

    def _command(self, program: str, arguments: Sequence[str]) -> list[str]:
        path = shutil.which(program) or program
        interpreter = Path(path).read_text().partition("\n")[0].removeprefix("#!").strip()
        return [interpreter, "-c", _LAUNCHER, str(self._folder), path, *arguments]

    def _launch(self, program: str, command: Sequence[str]) -> None:
        with open(self._folder / f"{program}.log", "ab") as log:
            process = subprocess.Popen(command, env=_clean_environment(), stdout=log, stderr=log, start_new_session=True)
        self._processes.append(process)

    def _last_words(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in sorted(self._folder.glob("*.log")))


def _check_attributes(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift.metadata", b"x" * 1024)
    except (OSError, AttributeError):
        raise PreflightError(f"the file system of {folder} has no extended attributes, which Swift needs; choose another") from None
    finally:
        probe.unlink()


def _clean_environment() -> dict[str, str]:
    # The system's Python runs Swift; a virtual environment's settings would mislead it.
    return {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TMPDIR")}


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _command(
    folder: Annotated[Path, typer.Option(help="Where its configuration and objects go.")],
    port: Annotated[int | None, typer.Option(help="Port of the S3 interface; none: a free one.")] = None,
) -> None:
    """A real object store with an S3 interface on this machine, until Ctrl-C."""
    stop = stop_event()
    with SwiftServer(folder, port) as server:
        typer.echo("\n".join(f"export {key}={value}" for key, value in server.environment.items()))
        typer.echo("# Ctrl-C stops it; the objects stay in the folder.")
        stop.wait()


if __name__ == "__main__":
    typer.run(_command)
