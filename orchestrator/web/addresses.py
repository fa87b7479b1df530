"""Where a request comes from: the peer of its connection, unless that is a proxy of ours, which says whom it speaks for.

Decides whom the delays after wrong passwords belong to. X-Forwarded-For is a header that anybody can set: it is read from its right end,
and only as far as each hop is a proxy that the settings name.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

type Network = IPv4Network | IPv6Network
type Address = IPv4Address | IPv6Address

_IPV6_SITE_BITS = 64
"""One household or server is given 2^64 addresses: delays belong to all of them together. Source: RFC 6177, section 2."""


class Addresses:
    """Tells who asks, given whose word counts."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def of(self, peer: str, forwarded_for: str = "") -> str:
        """The address that asks; an IPv6 one as its /64.

        Args:
            peer: The other end of the connection.
            forwarded_for: The header X-Forwarded-For, one or more addresses with commas between.
        """
        found = _read(peer)
        hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
        while found is not None and hops and self._trusts(found):
            before = _read(hops.pop())
            if before is None:
                break
            found = before
        return peer if found is None else _site(found)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _read(text: str) -> Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _site(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), _IPV6_SITE_BITS), strict=False))
