"""Connections of the web as they are really made: by TLS to the host's name, and by a proxy."""

from __future__ import annotations

import datetime
import http.server
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from sc3d import web_connections
from sc3d.config import DownloadConfig
from sc3d.errors import InputError
from sc3d.remote_images import read_url

NAME = "photos.example.org"


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "PNG")
    return buffer.getvalue()


class Server:
    """Answers every request with a photo; ``asked`` has the first line of each. With ``refusing``, it opens no tunnel."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        seen = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.requestline)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(photo())

            def do_CONNECT(self) -> None:
                seen.append(self.requestline)
                self.send_error(403)

            def log_message(self, *arguments: Any) -> None: ...

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    server.start()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.stop()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a certificate for a host, which has signed itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    return folder / "certificate.pem", folder / "key.pem"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, list[str | None]]]:
    """A server of the name by TLS, to which every name leads, and the names that it was asked by."""
    public, private = certificate(tmp_path, NAME)
    context, server, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Server(), list[str | None]()
    context.load_cert_chain(public, private)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    server.start()
    really = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **options: really("127.0.0.1", *rest, **options))
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    web_connections._certificates.cache_clear()
    yield server, names
    web_connections._certificates.cache_clear()
    server.stop()


def test_tls_is_with_the_host_s_name_whatever_address_was_chosen(named: tuple[Server, list[str | None]]) -> None:
    server, names = named
    limits = DownloadConfig(timeout=5, deadline=10, attempts=1, hosts=("127.0.0.1",))
    assert read_url(f"https://{NAME}:{server.port}/a.png", limits) == photo()
    assert names == [NAME]
    with pytest.raises(InputError, match="certificate is not valid"):
        read_url(f"https://other.example.org:{server.port}/a.png", limits)
    assert names == [NAME, "other.example.org"]
    assert server.asked == ["GET /a.png HTTP/1.1"]


PRIVATE = (
    "169.254.169.254",
    "2130706433",
    "0x7f.1",
    "127.1",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "localhost",
    "metadata.google.internal",
    "minio",
)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", PRIVATE)
def test_a_proxy_is_never_asked_for_what_is_private(proxy: Server, scheme: str, host: str) -> None:
    with pytest.raises(InputError, match=r"its host may not be asked: .*dataset\.download\.hosts"):
        read_url(f"{scheme}://{host}/a.png", DownloadConfig(timeout=2, deadline=5, attempts=1))
    assert proxy.asked == []


def test_a_proxy_is_asked_for_public_names_and_those_that_are_allowed(proxy: Server) -> None:
    limits = DownloadConfig(timeout=2, deadline=5, attempts=1, hosts=("public", "minio:9000"))
    assert read_url("http://photos.example.org/a.png", limits) == photo()
    assert read_url("http://minio:9000/a.png", limits) == photo()
    with pytest.raises(InputError, match="connection was lost"):
        read_url("https://photos.example.org/a.png", limits)
    with pytest.raises(InputError, match="may not be asked"):
        read_url("http://photos.example.org/a.png", DownloadConfig(attempts=1, hosts=("other.example.org",)))
    asked = ["http://photos.example.org/a.png", "http://minio:9000/a.png", "photos.example.org:443"]
    assert [line.split()[1] for line in proxy.asked] == asked


def test_what_goes_past_the_proxy_is_checked_as_ever(proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = Server()
    direct.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(InputError, match="may not be asked"):
        read_url(f"http://127.0.0.1:{direct.port}/a.png", DownloadConfig(attempts=1))
    # The proxy itself is the environment's; data may not speak to it as to a web server.
    with pytest.raises(InputError, match="may not be asked"):
        read_url(f"http://127.0.0.1:{proxy.port}/a.png", DownloadConfig(attempts=1))
    assert direct.asked == proxy.asked == []
    assert read_url(f"http://127.0.0.1:{direct.port}/a.png", DownloadConfig(attempts=1, hosts=("127.0.0.1",))) == photo()
    direct.stop()
