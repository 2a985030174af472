"""Which hosts may be asked: by where they are in whatever spelling, and the connection goes to what was checked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sc3d.web_hosts import NOT_PUBLIC, PUBLIC, HostRefusedError, Hosts, Rule, is_public

ANYBODY = Hosts.of([PUBLIC])

V4 = [network for network in NOT_PUBLIC if isinstance(network, ipaddress.IPv4Network)]


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    """Ways to write an address of IPv4 that resolvers take, and addresses of IPv6 that lead to it."""
    number, bytes_ = int(address), list(address.packed)
    a, b, *rest = bytes_
    low = int.from_bytes(bytes(rest), "big")
    return [
        str(address),
        f"{address}.",
        str(number),
        hex(number),
        f"0X{number:X}",
        f"0{number:o}",
        ".".join(hex(byte) for byte in bytes_),
        ".".join(f"0{byte:o}" for byte in bytes_),
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{low}",
        f"0x{a:x}.0{b:o}.{low}",
        f"::ffff:{address}",
        f"::FFFF:{number >> 16:x}:{number & 0xFFFF:x}",
        f"0:0:0:0:0:ffff:{address}",
        f"64:ff9b::{address}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
        # Teredo holds the address of its client with all bits turned.
        f"2001:0:808:808::{(number >> 16) ^ 0xFFFF:x}:{(number & 0xFFFF) ^ 0xFFFF:x}",
        f"::{address}",
    ]


def private_addresses() -> st.SearchStrategy[ipaddress.IPv4Address]:
    return st.sampled_from(V4).flatmap(lambda network: st.ip_addresses(v=4, network=network))


@given(private_addresses(), st.data())
def test_no_spelling_of_a_private_address_is_asked(address: ipaddress.IPv4Address, data: st.DataObject) -> None:
    host = data.draw(st.sampled_from(spellings(address)))
    try:
        ANYBODY.connect((host, 80), 0.01)
    except HostRefusedError:
        pass
    except socket.gaierror:
        # This machine's resolver does not take that spelling; a proxy's may.
        assert not host.replace(":", "").isdigit()
    else:
        raise AssertionError(f"{host} was asked")
    with pytest.raises(HostRefusedError):
        ANYBODY.check_name(host, 80)


@given(st.ip_addresses(v=6))
def test_of_ipv6_only_unicast_and_translated_addresses_are_public(address: ipaddress.IPv6Address) -> None:
    assume(address.ipv4_mapped is None and address not in ipaddress.ip_network("64:ff9b::/96"))
    if is_public(address):
        assert address in ipaddress.ip_network("2000::/3")


@given(st.ip_addresses(v=4))
def test_what_is_public_is_so_in_each_spelling(address: ipaddress.IPv4Address) -> None:
    assume(not any(address in network for network in V4))
    assert is_public(address)
    for host in spellings(address):
        if ":" not in host or host.startswith(("64:", "::ffff", "::FFFF", "0:")):
            ANYBODY.check_name(host, 443)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.0.0.1", "224.0.0.1",
     "255.255.255.255", "168.63.129.16", "192.0.0.192", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%1", "fd00:ec2::254", "fc00::1",
     "ff02::1", "fec0::1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "5f00::1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::"],
)  # fmt: skip
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "2a00:1450::1"])
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST.", "a.localhost", "minio", "kubernetes.default.svc", "metadata.google.internal", "nas.local", "x.home.arpa",
     "0x", "1.2.3.4.5", "127.0.0.1.0x1", "256.256.256.256", "08.8.8.8", "a.org/b", "a.org\\@127.0.0.1", "a@b.org", "", ".", "a..b",
     "a.org:80", "a%2eorg", "\u2460.org"],
)  # fmt: skip
def test_a_proxy_is_not_asked_for_names_without_a_public_form(name: str) -> None:
    with pytest.raises(HostRefusedError):
        ANYBODY.check_name(name, 80)


@pytest.mark.parametrize("name", ["example.org", "EXAMPLE.org.", "xn--mller-kva.de", "my_cdn.example.org", "1-2.example.org"])
def test_a_proxy_is_asked_for_public_names(name: str) -> None:
    ANYBODY.check_name(name, 80)


@pytest.mark.parametrize(
    ("rule", "host", "port", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "2130706433", 80, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.0.0.1:8080", "127.0.0.1", 80, False),
        ("127.0.0.0/8", "127.1.2.3", 80, True),
        ("127.0.0.0/8", "10.0.0.1", 80, False),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("::1", "::1", 81, True),
        ("fd00::/8", "fd00:ec2::254", 80, True),
        ("NAS.Example.org", "nas.example.org.", 80, True),
        ("nas.example.org:8080", "nas.example.org", 80, False),
        ("nas.example.org", "other.example.org", 80, False),
        ("nas.example.org", "nas.example.org.evil.org", 80, False),
        ("example.org", "8.8.8.8", 80, False),
        ("müller.de", "xn--mller-kva.de", 80, True),
        ("public", "8.8.8.8", 80, True),
    ],
)
def test_rules(rule: str, host: str, port: int, allowed: bool) -> None:
    hosts = Hosts.of([rule])
    if allowed:
        hosts.check_name(host, port)
        Hosts.of(["example.net", rule]).check_name(host, port)
    else:
        with pytest.raises(HostRefusedError):
            hosts.check_name(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "http://example.org", "example.org/photos", "example.org:x", "example.org:99999", "me@example.org", "*.example.org", "10.0.0.1/8",
     "10.0.0.0/33", "public:80", "a b", "[::1", "?x", "example.org?x", "example.org#x"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rule.of(text)


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server, server.getsockname()[1]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Has names lead to one answer after the other. Returns the names that were looked up."""
    asked: list[str] = []
    really = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host[0].isdigit():
            return really(host, port, *arguments, **options)
        asked.append(host)
        answer = answers[min(len(asked), len(answers)) - 1]
        return [one for address in answer for one in really(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_a_name_is_looked_up_once_and_the_checked_address_is_asked(
    listening: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: what the name leads to after it was checked does not matter."""
    _, port = listening
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    with Hosts.of(["127.0.0.1"]).connect(("rebind.example.org", port), 1) as opened:
        assert opened.getpeername() == ("127.0.0.1", port)
    assert asked == ["rebind.example.org"]


def test_of_several_addresses_only_those_that_are_allowed_are_asked(
    listening: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, port = listening
    resolving(monkeypatch, ["10.0.0.1", "169.254.169.254", "127.0.0.1"])
    with Hosts.of(["127.0.0.1"]).connect(("both.example.org", port), 1) as opened:
        assert opened.getpeername() == ("127.0.0.1", port)
    server.accept()[0].close()
    with pytest.raises(HostRefusedError, match=r"'both\.example\.org' is at 10\.0\.0\.1"):
        ANYBODY.connect(("both.example.org", port), 1)
    with pytest.raises(TimeoutError):
        server.accept()
