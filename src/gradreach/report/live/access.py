"""Who may ask what of the live page. Everything that is not allowed here is refused."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qs

__all__ = ["LOOPBACK", "Access", "Refusal", "is_loopback", "own_names"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
METHODS = ("GET", "HEAD")
LONGEST_TARGET = 2048  # bytes of path and query; ours have less than 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that says no: the HTTP status and one sentence."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Access:
    """The rules of one server, the same for every method and every address.

    A page of some other site that the user has open can make the browser ask us. It cannot
    choose the Host header: where its own name was made to lead here (DNS rebinding), that name
    stands in it. The browser says where a question comes from in Origin and Sec-Fetch-Site.
    What neither tells, the token does, which only whoever started the server knows.

    Args:
        port: Where the server listens; a Host without it, or with another one, is refused.
        token: Must stand in the query of every address.
        hosts: Names in the Host header that are ours.
        any_address: Whether an IP address is one of them, whichever: no name leads there.
    """

    port: int
    token: str = field(repr=False)
    hosts: frozenset[str] = frozenset(LOOPBACK)
    any_address: bool = False

    def refusal(self, method: str, target: str, headers: Message) -> Refusal | None:
        """Return why a request is refused; ``None`` where it is allowed.

        Example:
            >>> asked = Message()
            >>> asked["Host"] = "evil.example:8472"
            >>> Access(port=8472, token="t").refusal("GET", "/?token=t", asked).status
            403
        """
        if len(target) > LONGEST_TARGET:
            return Refusal(414, "the address is too long")
        hosts = headers.get_all("Host", [])
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return Refusal(403, "this server does not go by that name: see --allow-host")
        if not self._same_origin(hosts[0], headers):
            return Refusal(403, "the question comes from another site")
        if method not in METHODS:
            return Refusal(405, "this server only shows: GET and HEAD")
        given = parse_qs(target.partition("?")[2]).get("token", [""])[0]
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode()):
            return Refusal(403, "the token is missing or wrong: open the address as it was printed")
        return None

    def _ours(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or name.endswith(":") or host.endswith("]"):  # no port: an address in [] has :
            name, port = host, "80"
        if port != str(self.port):
            return False
        return name.lower() in self.hosts or (self.any_address and _is_address(name))

    @staticmethod
    def _same_origin(host: str, headers: Message) -> bool:
        origins = headers.get_all("Origin", [])
        sites = headers.get_all("Sec-Fetch-Site", [])
        return all(origin.lower() == f"http://{host.lower()}" for origin in origins) and all(
            site.lower() in ("same-origin", "none") for site in sites
        )


def is_loopback(host: str) -> bool:
    """Tell whether a server on this host is reachable from this machine alone.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "box")]
        [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


def own_names(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Return the names a server on this host goes by, those that the user allows among them.

    Example:
        >>> sorted(own_names("::1", ["Box.local"]))
        ['127.0.0.1', '[::1]', 'box.local', 'localhost']
    """
    own = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return frozenset(name.lower() for name in (*LOOPBACK, own, *allowed))
