"""Which hosts of the web may be asked for photos, and connections to these alone.

Addresses come from data, and the machines that read them stand in networks where more answers than the web: services of the same host, of
a private network, of the cluster, and the cloud's metadata service, which gives out credentials. So a name is looked up once, what it leads
to is checked, and the connection goes to exactly the address that was checked: a name that leads elsewhere a moment later gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

PUBLIC = "public"
"""The rule that allows every address which is not in :data:`NOT_PUBLIC`."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NOT_PUBLIC: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA's registry of special purposes; Python's own list differs between its versions.
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
            "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
            "240.0.0.0/4",
            # Where virtual machines of Azure ask their host. It looks public.
            "168.63.129.16/32",
            # Of IPv6, only 2000::/3 is public at all. In it: protocols and tunnels (Teredo, 6to4), which lead to any address, and examples.
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
"""Addresses that are of a machine, a private network, a cloud's inside, a group or nobody."""

_UNICAST = ipaddress.IPv6Network("2000::/3")
# The translator of networks that have IPv6 alone; the last 32 bits are the address that it leads to.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# What a name ends in that only a private network knows, for names that a proxy looks up.
_INSIDE = {"localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "svc", "arpa"}
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class HostRefusedError(Exception):
    """No rule allows this host. The message says why, and what it is known as there."""


@dataclass(frozen=True)
class Rule:
    """Hosts that may be asked: by name, or by where they are; on one port, or on all."""

    name: str = ""
    network: Network | None = None
    port: int | None = None

    @classmethod
    def of(cls, text: str) -> Rule:
        """``public``, or a name, an address or a block of addresses, the first two also with ``:port``.

        Raises:
            ValueError: it is something else.
        """
        wrong = (
            f"'{text}' is not a rule for hosts; it is public, a name, an address or a block of them (10.1.0.0/16), without http://"
        )
        network = _network(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
        if network is not None:
            return cls(network=network)
        try:
            parts = urlsplit(f"//{text}")
            name, port = _plain((parts.hostname or "").encode("idna").decode()), parts.port
        except ValueError:
            raise ValueError(wrong) from None
        network = _network(name)
        if parts.netloc != text or "@" in text or not (network or _NAME.fullmatch(name)) or (name == PUBLIC and port is not None):
            raise ValueError(wrong)
        return cls(name="" if network else name, network=network, port=port)

    def allows(self, host: str, port: int, address: Address | None) -> bool:
        """Whether a host of this name may be asked at this address; ``None`` where a proxy looks the name up."""
        if self.name == PUBLIC:
            return _has_public_name(host) if address is None else is_public(address)
        if self.port not in (None, port):
            return False
        if self.network is None:
            return host == self.name
        return address is not None and address in self.network


@dataclass(frozen=True)
class Hosts:
    """The rules of a configuration; a host is allowed by any of them."""

    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, listed: Iterable[str]) -> Hosts:
        """Parse :meth:`Rule.of` of each. Raises ValueError."""
        return cls(tuple(map(Rule.of, listed)))

    def connect(self, target: tuple[str, int], timeout: float, source: tuple[str, int] | None = None) -> socket.socket:
        """As :func:`socket.create_connection`, to those addresses of a host that are allowed.

        Raises:
            HostRefusedError: none of them is.
            OSError: there is no such host, or none of them answers.
        """
        host, port = target
        failure: OSError | None = None
        for family, where in self._resolve(host, port):
            opened = socket.socket(family, socket.SOCK_STREAM)
            try:
                opened.settimeout(timeout)
                opened.connect(where)
                return opened
            except OSError as error:
                opened.close()
                failure = error
        raise failure or OSError("the host has no address")

    def check_name(self, host: str, port: int) -> None:
        """Check what a proxy is asked for, which looks names up itself: an address in any spelling, or whether the name is a public one.

        Raises:
            HostRefusedError: it is not allowed.
        """
        name = _plain(host)
        address = _written(name)
        if address is None and not _NAME.fullmatch(name):
            raise HostRefusedError(f"'{name}' is not the name of a host")
        if not self._allows(name, port, address):
            raise HostRefusedError(f"'{name}' is not the name of a public one")

    def _resolve(self, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        allowed = [(family, where) for family, _, _, _, where in found if self._allows(_plain(host), port, _address(str(where[0])))]
        if found and not allowed:
            raise HostRefusedError(f"'{_plain(host)}' is at {found[0][4][0]}")
        return allowed  # type: ignore[return-value]

    def _allows(self, host: str, port: int, address: Address | None) -> bool:
        return any(rule.allows(host, port, address) for rule in self.rules)


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet; one of IPv6 that stands for one of IPv4 is what that is."""
    inner = _embedded(address)
    if isinstance(inner, ipaddress.IPv6Address) and inner not in _UNICAST:
        return False
    return not any(inner in network for network in NOT_PUBLIC)


def _embedded(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(address.packed[-4:])
    return address


def _address(text: str) -> Address:
    return _embedded(ipaddress.ip_address(text))


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


def _written(name: str) -> Address | None:
    """The address that a name is, in any of the spellings that resolvers take: 2130706433, 0x7f.1, 127.1."""
    try:
        return _address(name)
    except ValueError:
        if not _NUMBER.fullmatch(name.rpartition(".")[2]):
            return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        raise HostRefusedError(f"'{name}' is neither a name nor an address") from None


def _has_public_name(name: str) -> bool:
    return "." in name and name.rpartition(".")[2] not in _INSIDE
