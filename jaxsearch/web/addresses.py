"""Which network addresses pages may be fetched from."""

import ipaddress
from collections.abc import Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressRule = Callable[[Address], bool]
"""Whether a connection to this address is allowed."""

# Python's `is_global` differs among its versions, and is true of some of these. They
# are the networks of IANA's registries of special purposes, and multicast.
_PRIVATE_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
    )
)
# All public addresses of today are in here; among the rest are loopback, link-local,
# unique local and multicast addresses, and IPv4 addresses in IPv6 ones.
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_V6 = tuple(
    ipaddress.IPv6Network(network)
    # Special purposes with Teredo, documentation, 6to4, documentation.
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# Networks without IPv4 reach its servers under this prefix and the IPv4 address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to a server on the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _PRIVATE_V4)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    is_private = any(address in network for network in _PRIVATE_V6)
    return address in _PUBLIC_V6 and not is_private


def any_address(address: Address) -> bool:
    """Allows every address: for servers that the user has chosen."""
    return True
