"""Addresses of clients, and the networks that they are in. A proxy may pass on a text that is no address."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


def parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    """Return the address, or None if the text is none. An IPv4 address inside an IPv6 address counts as IPv4."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def is_loopback(address: str | None) -> bool:
    """Return whether it is an address of this machine."""
    found = parsed(address)
    return found is not None and found.is_loopback


def shortened(address: str | None, bits: dict[int, int]) -> str:
    """Return the network of the address, such as "203.0.113.0/24", or an empty text if it is not an address.

    `bits` gives the length of the network by IP version, for example {4: 24, 6: 48}.
    """
    found = parsed(address)
    return str(ip_network((found, bits[found.version]), strict=False)) if found else ""
